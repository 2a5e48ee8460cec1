"""Immutable model versions and the aliases that say which of them serves."""

from serving.registry.aliases import Aliases, StaleAliases
from serving.registry.store import ModelStore, RegistryError

__all__ = ["Aliases", "ModelStore", "RegistryError", "StaleAliases"]
