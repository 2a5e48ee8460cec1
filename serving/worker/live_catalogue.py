"""One worker's view of the live catalogue: read several times a second, beside the requests."""

import logging
import threading
from collections import Counter

from feature_repo.catalogue import CatalogueStore
from feature_repo.event_codec import Record
from serving import metrics
from serving.engine.engine import Engine
from serving.engine.live_items import FEW_IMPRESSIONS, LiveEngine
from serving.engine.recommendation import Recommendation

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
VERSIONS = 3  # champion, challenger, previous


class LiveCatalogue:
    """Follows the store in a thread, and gives each engine what is known of items beyond it.

    While the store is away what was read last holds.
    """

    def __init__(self, store: CatalogueStore) -> None:
        self._store = store
        self._sequence = 0
        self._items: dict[str, Record] = {}
        self._impressions: dict[str, int] = {}
        self._engines: dict[str, LiveEngine] = {}
        self._shown: Counter[str] = Counter()
        self._reading = threading.Lock()
        self._counting = threading.Lock()
        self._stop = threading.Event()
        self._try_refresh()
        self._thread = threading.Thread(target=self._follow, name="live-catalogue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following, and write what was counted."""
        self._stop.set()
        self._thread.join()
        self._try_refresh()
        self._store.close()

    def extend(self, engine: Engine) -> Engine:
        """The engine with the live items; itself while there are none."""
        if not self._items:
            return engine
        known = self._engines.get(engine.version)
        if known is None:  # a version that has just come: once, so that nothing gone is shown
            with self._reading:
                known = self._engines.get(engine.version)
                if known is None:
                    known = LiveEngine(engine, self._items, self._impressions)
                    newest = list(self._engines.items())[1 - VERSIONS :]
                    self._engines = dict([*newest, (engine.version, known)])
        return known

    def count(self, answer: Recommendation) -> None:
        """Count the items of a slate that are still to be introduced."""
        known = self._engines.get(answer.model_version)
        if known is None:
            return
        new = known.still_new(answer.slate.items)
        if len(new):
            with self._counting:
                self._shown.update(known.vocabulary.decode(new.tolist()))

    def refresh(self) -> None:
        """Read what changed, and write what was shown."""
        with self._reading:
            with self._counting:
                shown, self._shown = self._shown, Counter()
            try:
                if shown:
                    self._store.count_impressions(shown)
                changes = self._store.since(self._sequence)
            except Exception:
                with self._counting:
                    self._shown += shown
                raise
            if changes.sequence == self._sequence:
                return
            self._sequence = changes.sequence
            before = self._impressions
            # New mappings, since engines that are in use hold the ones before.
            self._items = self._items | {r["item_id"]: r for r in changes.items}
            self._impressions = before | changes.impressions
            passed = any(
                count >= FEW_IMPRESSIONS > before.get(item_id, 0)
                for item_id, count in changes.impressions.items()
            )
            if changes.items or passed:
                self._engines = {
                    version: LiveEngine(known.version_alone, self._items, self._impressions, known)
                    for version, known in self._engines.items()
                }

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._try_refresh()

    def _try_refresh(self) -> None:
        try:
            self.refresh()
        except Exception as error:
            logger.warning("catalogue: the store cannot be read (%s)", type(error).__name__)
            metrics.HISTORY_FAILURES.inc()
