"""The feature store: what a user did, point in time for training and up to the moment for serving.

The only package that imports Feast. `publish` builds the offline tables and loads the online
store, `extract` reads training sequences as of a cutoff, `history` keeps what happened since.
"""

from typing import Any

import typeguard


def _as_it_is(target: Any = None, **_: Any) -> Any:
    """A class or function as it was written, whichever way the decorator is used."""
    return target if target is not None else lambda plain: plain


# Feast has typeguard rewrite the code of its classes as they are imported: half of the seconds that
# every stage and every server would wait for it. Nothing else here uses typeguard.
typeguard.typechecked = _as_it_is
