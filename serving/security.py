"""Who may call what: API keys by role."""

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sasrec.errors import SettingsError, first_problem

Role = Literal["recommend", "events", "catalogue", "metrics", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiKeys(BaseModel):
    """Accepted keys of each role; an admin key opens everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommend: list[str] = Field(default=[])
    events: list[str] = Field(default=[])
    catalogue: list[str] = Field(default=[])
    metrics: list[str] = Field(default=[])
    admin: list[str] = Field(default=[])

    @classmethod
    def load(cls, path: Path) -> "ApiKeys":
        """Read a key file.

        Raises:
            ValueError: the file is missing, is not this JSON, or holds no key.
        """
        try:
            keys = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise SettingsError(
                f"{path}: no such key file; --insecure serves without keys"
            ) from None
        except ValidationError as error:
            raise SettingsError(f"{path}: {first_problem(error).message}") from None
        if not any(getattr(keys, role) for role in ROLES):
            raise SettingsError(f"{path}: holds no key")
        return keys

    def allow(self, presented: bytes, role: Role) -> bool:
        """Whether the key opens the role; takes as long whichever key it is."""
        digest = hashlib.sha256(presented).digest()
        accepted = [*getattr(self, role), *(self.admin if role != "admin" else [])]
        # Digests, so that lengths tell nothing either; all of them, so that order does not.
        matches = [
            hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in accepted
        ]
        return any(matches)


def create_keys(path: Path, *, recommend: int = 1) -> ApiKeys:
    """Write one new key for each role, readable by this user alone; keep a file that exists.

    Args:
        recommend: how many keys with the role `recommend`.
    """
    keys = {role: [secrets.token_urlsafe(24)] for role in ROLES}
    keys["recommend"] += [secrets.token_urlsafe(24) for _ in range(recommend - 1)]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return ApiKeys.load(path)
    with os.fdopen(descriptor, "w") as file:
        json.dump(keys, file, indent=2)
    return ApiKeys(**keys)
