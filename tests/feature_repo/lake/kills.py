"""A process that dies between two writes to the lake."""

from pydoc import locate

import pytest


class Killed(BaseException):
    """As no handler expects it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, instant: int) -> list[str]:
    """Let the process die at one of the instants before and after each write; returns the writes.

    Once dead, it writes nothing any more.
    """
    passed: list[str] = []

    def mortal(write, name):
        def wrapped(*args, **kwargs):
            for moment in ("before", "after"):
                if len(passed) >= instant:
                    raise Killed
                passed.append(f"{moment} {name}")
                if moment == "before":
                    result = write(*args, **kwargs)
            return result

        return wrapped

    for target in (
        "feature_repo.lake.lake.write_deltalake",
        "feature_repo.lake.state.StateFile.write",
        "deltalake.DeltaTable.delete",
    ):
        monkeypatch.setattr(target, mortal(locate(target), target))
    return passed
