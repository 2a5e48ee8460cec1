"""What a run was given, to tell whether another run would come to anything new.

The same data and settings make the same model. So a night repeats neither the run that made the
champion, nor one whose model the gate held, nor one whose version somebody rolled back: what a
person decided stands until there is something new to judge.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.support.settings import RunConfig
from serving.registry import ModelStore, open_registry

FILE = "data_state.json"
HELD = "held.json"
"""In the home: the newest run whose model did not pass."""
METADATA = "data_state"
"""Its key in the metadata of a registered version."""


@dataclass(frozen=True)
class DataState:
    """The data and the settings of one run.

    Attributes:
        batch: the newest batch of the lake that added rows.
        rows: interactions that the run may use, before cleaning.
        settings: sha256 of everything that decides what is made of them.
        as_of: ISO 8601, the run's moment; not compared.
    """

    batch: int
    rows: int
    settings: str
    as_of: str

    @classmethod
    def of(cls, run: RunConfig, *, batch: int, rows: int, as_of: datetime) -> "DataState":
        """Of a run whose data came in as `batch`."""
        # Where the data comes from decides nothing once it is in the lake.
        whence = {"dataset", "data_dir", "columns", "seed", "as_of"}
        content = run.model_dump_json(exclude={"data": whence, "moment": True, "keep": True})
        digest = hashlib.sha256(content.encode()).hexdigest()
        return cls(batch, rows, digest, as_of.isoformat())

    def save(self, run_dir: Path, *, nothing_new: str | None) -> None:
        """Write it for the stages that follow, and why none shall, if that is so."""
        (run_dir / FILE).write_text(json.dumps({"nothing_new": nothing_new, **asdict(self)}))

    @classmethod
    def load(cls, run_dir: Path) -> "DataState":
        """What `save` wrote."""
        content = json.loads((run_dir / FILE).read_text())
        content.pop("nothing_new")
        return cls(**content)

    def metadata(self) -> dict[str, str | int]:
        """For the manifest of the version that comes of it."""
        return asdict(self)

    def compared(self) -> dict[str, str | int]:
        """What decides whether two runs are alike."""
        return {name: value for name, value in asdict(self).items() if name != "as_of"}

    def known_by(self, home: Path) -> str | None:
        """Where the site has had a model of the same data and settings; None if it has not."""
        store = open_registry(home)
        aliases = store.aliases()
        if self._made(store, aliases.champion):
            return "the champion was trained on the same data with the same settings"
        if self._made(store, aliases.previous):
            return (
                f"version {aliases.previous}, of the same data and settings, was taken back; "
                "promote it by hand if it shall serve after all"
            )
        held = _read(home / HELD)
        if held is not None and self._is_like(held["data_state"]):
            return (
                f"run {held['run']} made a model of the same data and settings, and it was held: "
                f"{held['reason']}"
            )
        return None

    def _made(self, store: ModelStore, version: str | None) -> bool:
        known = None if version is None else store.show(version).metadata.get(METADATA)
        return known is not None and self._is_like(known)

    def _is_like(self, other: dict[str, Any]) -> bool:
        return DataState(**other).compared() == self.compared()


def remember_held(home: Path, run_dir: Path, reason: str) -> None:
    """Write to the home that the model of this run was held, and why."""
    state = DataState.load(run_dir)
    record = {"run": run_dir.name, "reason": reason, "data_state": state.metadata()}
    unfinished = home / f".{HELD}.new"
    unfinished.write_text(json.dumps(record, indent=2))
    unfinished.replace(home / HELD)


def nothing_new(run_dir: Path) -> str | None:
    """Why the run ended after taking in; None if it did not."""
    written = _read(run_dir / FILE)
    return None if written is None else written["nothing_new"]


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
