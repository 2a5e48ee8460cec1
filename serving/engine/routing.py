"""Who is served by which model and policy: by stable hash of the user, the same in every worker."""

from functools import cache

from sasrec.off_policy.policy import UNIFORM, Policy, hash_share
from serving.settings import Settings


def ranking_policy(settings: Settings) -> Policy:
    """The policy of everyone outside the gold set, named after what it does."""
    new_share = min(settings.new_item_share, 1 - settings.epsilon)
    return _ranking_policy(settings.temperature, settings.epsilon, new_share)


@cache
def _ranking_policy(temperature: float, epsilon: float, new_share: float) -> Policy:
    ranking = "plackett_luce" if temperature > 0 else "greedy"
    name = f"epsilon_{ranking}" if epsilon > 0 else ranking
    return Policy(name, temperature=temperature, epsilon=epsilon, new_share=new_share)


def choose_policy(user_id: str | None, settings: Settings) -> Policy:
    """The policy that serves a user; anonymous requests are never in the gold set."""
    if user_id is not None and hash_share(user_id, "gold") < settings.gold_share:
        return UNIFORM
    return ranking_policy(settings)


def serves_challenger(user_id: str | None, settings: Settings) -> bool:
    """Whether a user belongs to the challenger, while there is one; never an anonymous request."""
    return user_id is not None and hash_share(user_id, "model") < settings.challenger_share
