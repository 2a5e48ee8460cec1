"""Pairs of model and training settings: by name, from a file, or chosen by the data."""

from sasrec.presets.auto import AUTO
from sasrec.presets.lookup import named, preset
from sasrec.presets.named import PRESETS
from sasrec.presets.settings import Preset, with_sections

__all__ = ["AUTO", "PRESETS", "Preset", "named", "preset", "with_sections"]
