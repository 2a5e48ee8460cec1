"""What a run was given, to tell whether another run would be given anything new."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from components.support.settings import RunConfig
from serving.registry import open_registry

FILE = "data_state.json"
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
        content = run.model_dump_json(exclude={"data": whence, "moment": True})
        digest = hashlib.sha256(content.encode()).hexdigest()
        return cls(batch, rows, digest, as_of.isoformat())

    def save(self, run_dir: Path, *, new: bool) -> None:
        """Write it for the stages that follow, and whether any shall."""
        (run_dir / FILE).write_text(json.dumps({"new": new, **asdict(self)}))

    @classmethod
    def load(cls, run_dir: Path) -> "DataState":
        """What `save` wrote."""
        content = json.loads((run_dir / FILE).read_text())
        content.pop("new")
        return cls(**content)

    def metadata(self) -> dict[str, str | int]:
        """For the manifest of the version that comes of it."""
        return asdict(self)

    def compared(self) -> dict[str, str | int]:
        """What decides whether two runs are alike."""
        return {name: value for name, value in asdict(self).items() if name != "as_of"}

    def equals_champion(self, home: Path) -> bool:
        """Whether the champion of the site came of the same data and settings."""
        store = open_registry(home)
        champion = store.aliases().champion
        if champion is None:
            return False
        known = store.show(champion).metadata.get(METADATA)
        return known is not None and DataState(**known).compared() == self.compared()


def found_nothing_new(run_dir: Path) -> bool:
    """Whether the run ended after taking in, since the champion knows it all."""
    path = run_dir / FILE
    return path.exists() and not json.loads(path.read_text())["new"]
