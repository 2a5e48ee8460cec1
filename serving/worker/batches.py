"""Lists for all who wait, whichever version each of them is served."""

from collections.abc import Sequence
from typing import NamedTuple

from serving.engine.engine import Engine
from serving.engine.recommendation import Asked, Recommendation, recommend_batch


class Job(NamedTuple):
    """One list to compute, and with what."""

    engine: Engine
    asked: Asked


def recommend_all(jobs: Sequence[Job], *, candidates: int) -> list[Recommendation | Exception]:
    """An answer to each job, of one forward pass for each version.

    Where a pass fails, each of its lists is tried alone: the others are not the worse for one.
    """
    by_engine: dict[int, list[int]] = {}
    for place, job in enumerate(jobs):
        by_engine.setdefault(id(job.engine), []).append(place)
    answers: dict[int, Recommendation | Exception] = {}
    for places in by_engine.values():
        engine, asked = jobs[places[0]].engine, [jobs[place].asked for place in places]
        try:
            found = recommend_batch(engine, asked, candidates=candidates)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            for place in places:
                answers[place] = recommend_all([jobs[place]], candidates=candidates)[0]
        else:
            answers |= zip(places, found, strict=True)
    return [answers[place] for place in range(len(jobs))]
