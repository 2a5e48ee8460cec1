"""The one setting that chooses where features are built and served."""

import os

from sasrec.errors import DataError

PROFILES = ("local", "production", "cluster")
PROFILE_SETTING = "SASREC_FEATURE_PROFILE"
"""The environment variable that chooses a profile, for whoever publishes. Readers need none: what
is published says how it is read."""


def choose_profile(profile: str | None) -> str:
    """The one given, else the one of `PROFILE_SETTING`, else "local".

    Raises:
        DataError: no such profile.
    """
    chosen = profile or os.environ.get(PROFILE_SETTING, PROFILES[0])
    if chosen not in PROFILES:
        origin = "profile" if profile else PROFILE_SETTING
        raise DataError(f"{origin}: '{chosen}' is unknown; choose one of {', '.join(PROFILES)}")
    return chosen
