"""SASRec: a self-attentive sequential recommender, from interactions to ranked items.

import sasrec

recommender = sasrec.fit(frame)                # user_id, item_id, timestamp
recommender.recommend("u1", k=10)
sasrec.Recommender.load("model/")
sasrec.preset("sparse", dim=128)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sasrec.from_frame import fit
    from sasrec.model.recommender import Recommender
    from sasrec.presets import preset

__all__ = ["Recommender", "fit", "preset"]

_HOMES = {
    "Recommender": "sasrec.model.recommender",
    "fit": "sasrec.from_frame",
    "preset": "sasrec.presets",
}


def __getattr__(name: str) -> object:
    """Load what is asked for: who needs a schema alone must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sasrec' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
