"""Which policy serves whom: the split of users is by stable hash, so it is the same everywhere."""

import hashlib

from sasrec.policy import UNIFORM, Policy, hash_share
from serving.settings import Settings


def choose_policy(user_id: str | None, settings: Settings) -> Policy:
    """The policy that serves a user; anonymous requests are never in the gold set."""
    if user_id is not None and hash_share(user_id, "gold") < settings.gold_share:
        return UNIFORM
    return Policy(_name(settings), temperature=settings.temperature, epsilon=settings.epsilon)


def _name(settings: Settings) -> str:
    base = "plackett_luce" if settings.temperature > 0 else "greedy"
    return f"epsilon_{base}" if settings.epsilon > 0 else base


def request_seed(request_id: str) -> int:
    """The seed of a request's draw, so that a logged slate can be drawn again."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=6).digest())
