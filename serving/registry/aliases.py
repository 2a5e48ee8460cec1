"""Which version serves: `aliases.json`, moved by atomic rename with a compare on `generation`."""

from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from serving.registry.files import replace

Role = Literal["champion", "challenger"]


class StaleAliases(RuntimeError):
    """The aliases moved since the caller read them."""


class Aliases(BaseModel):
    """Roles and the versions that hold them.

    Attributes:
        champion: serves everyone who is not in the challenger's share.
        challenger: serves its share of users, when there is one.
        previous: the champion before this one, kept loaded for an instant rollback.
        generation: grows by one with every change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    generation: int = 0

    def versions(self) -> set[str]:
        """Every version that holds a role."""
        return {v for v in (self.champion, self.challenger, self.previous) if v is not None}

    def promoted(self, version: str, role: Role) -> "Aliases":
        """These aliases with `version` in `role`."""
        if role == "challenger":
            return self.model_copy(update={"challenger": version})
        if version == self.champion:
            return self
        challenger = None if self.challenger == version else self.challenger
        return self.model_copy(
            update={"champion": version, "previous": self.champion, "challenger": challenger}
        )

    def rolled_back(self) -> "Aliases":
        """These aliases with champion and previous exchanged."""
        return self.model_copy(update={"champion": self.previous, "previous": self.champion})


class AliasFile:
    """`aliases.json` of one model store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Aliases:
        """The aliases now; all empty where nothing was promoted yet."""
        try:
            return Aliases.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Aliases()

    def lock(self) -> FileLock:
        """Held while reading, deciding and writing."""
        return FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def write(self, aliases: Aliases, *, expected_generation: int) -> Aliases:
        """Store `aliases` as the next generation, if the file is still at the expected one.

        Raises:
            StaleAliases: someone else changed the aliases meanwhile.
        """
        with self.lock():
            now = self.read().generation
            if now != expected_generation:
                raise StaleAliases(
                    f"{self.path.name}: generation is {now}, expected {expected_generation}; "
                    "read the aliases again and retry"
                )
            aliases = aliases.model_copy(update={"generation": now + 1})
            replace(self.path, aliases.model_dump_json(indent=2).encode())
            return aliases
