"""The versions that a worker serves, following the aliases without dropping a request.

A thread polls `aliases.json`. A version that is new to this worker is loaded, its digests are
verified and its golden requests replayed, all beside the serving thread; then one reference is
swapped. Requests finish on the snapshot that they began with. Versions with a role stay loaded,
the previous champion among them, so a rollback is one swap.
"""

import logging
import threading
from dataclasses import dataclass

from safetensors import SafetensorError

from serving import metrics
from serving.engine.engine import Engine
from serving.engine.golden import replay
from serving.registry import Aliases, ModelStore, RegistryError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Snapshot:
    """What serves at one moment."""

    generation: int
    champion: Engine
    challenger: Engine | None


class LiveModels:
    """Holds the current `Snapshot` and moves it.

    A worker that starts on a broken champion, a disk's fault say, serves the previous one: those
    that run already go on with theirs, and one that did not start would answer nobody.

    Args:
        pinned: serve this version whatever the aliases say, and never swap.
        index_above: items above which a version's index is tried.

    Raises:
        RegistryError: there is no champion, or it is broken and so is the previous one.
    """

    def __init__(
        self, store: ModelStore, *, pinned: str | None = None, index_above: int | None = None
    ) -> None:
        self._store = store
        self._index_above = index_above
        self._loaded: dict[str, Engine] = {}
        self._stop = threading.Event()
        aliases = store.aliases() if pinned is None else Aliases(champion=pinned)
        if aliases.champion is None:
            raise RegistryError(f"{store.root}: no champion yet; run the pipeline first")
        champion = self._first_engine(aliases)
        as_told = champion.version == aliases.champion
        self.current = Snapshot(
            aliases.generation if as_told else 0,
            champion,
            self._try_engine(aliases.challenger),
        )
        metrics.GENERATION.set(self.current.generation)
        self._thread = threading.Thread(
            target=self._follow, args=(aliases.generation,), name="hot-swap", daemon=True
        )
        if pinned is None:
            self._thread.start()

    def engines(self) -> list[Engine]:
        """All versions that are loaded, with a role or about to have one."""
        return list(self._loaded.values())

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _first_engine(self, aliases: Aliases) -> Engine:
        """Of the champion; where that is broken, of the previous one."""
        assert aliases.champion is not None
        if aliases.previous is None:
            return self._engine(aliases.champion)
        previous = self._try_engine(aliases.champion) or self._try_engine(aliases.previous)
        return previous or self._engine(aliases.champion)  # which says what is wrong with it

    def _follow(self, seen: int) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                aliases = self._store.aliases()
                if aliases.generation != seen:
                    seen = aliases.generation
                    self._move_to(aliases)
            except Exception:
                logger.exception("hot swap: the aliases cannot be followed")
                metrics.SWAP_FAILURES.inc()

    def _move_to(self, aliases: Aliases) -> None:
        champion = self._try_engine(aliases.champion)
        if champion is None:
            return
        self.current = Snapshot(aliases.generation, champion, self._try_engine(aliases.challenger))
        metrics.GENERATION.set(aliases.generation)
        self._try_engine(aliases.previous)
        held = aliases.versions() | {champion.version}
        self._loaded = {v: engine for v, engine in self._loaded.items() if v in held}
        logger.info("hot swap: generation %d serves %s", aliases.generation, champion.version)

    def _try_engine(self, version: str | None) -> Engine | None:
        """The engine of a version, or None when there is none or it is refused."""
        if version is None:
            return None
        try:
            return self._engine(version)
        except (RegistryError, ValueError, KeyError, OSError, SafetensorError) as error:
            metrics.SWAP_FAILURES.inc()
            logger.error("hot swap: refused version %s: %s", version, error)
            return None

    def _engine(self, version: str) -> Engine:
        if version not in self._loaded:
            self._store.verify(version)
            engine = Engine(self._store.path(version), index_above=self._index_above)
            replay(engine, self._store.path(version))
            engine.warm_up()
            self._loaded[version] = engine
        return self._loaded[version]
