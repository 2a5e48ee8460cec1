"""A small storefront whose truth is known: the embedded default data set, and an environment."""

from sasrec.data.simulated.storefront import Storefront

__all__ = ["Storefront"]
