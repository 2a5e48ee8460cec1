"""The model against another role of the same evaluation, user by user."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sasrec.errors import DataError
from sasrec.evaluation.bootstrap import (
    Interval,
    mean_intervals,
    ratio_intervals,
    simultaneous_intervals,
)
from sasrec.evaluation.result import MODEL, Evaluation


@dataclass(frozen=True)
class SliceDifference:
    """Model minus reference over the users of one slice, with its simultaneous interval."""

    slicing: str
    label: str
    reference: float
    difference: Interval


def difference(evaluation: Evaluation, role: str, metric: str) -> Interval:
    """Mean of model − role over users, paired, user-clustered."""
    return contrast(evaluation, {MODEL: 1.0, role: -1.0}, metric)


def contrast(evaluation: Evaluation, weights: Mapping[str, float], metric: str) -> Interval:
    """Mean over users of the roles' values, each times its weight; paired, user-clustered.

    Users for whom a role has no value are left out.
    """
    weighted = [w * _values(evaluation, role, metric) for role, w in weights.items()]
    return mean_intervals(np.sum(weighted, axis=0)[:, None], **_settings(evaluation))[0]


def ratio(evaluation: Evaluation, role: str, metric: str, *, of: str = MODEL) -> Interval:
    """Mean of the role `of`, by default the model, over mean of `role`: paired, user-clustered."""
    model, reference = _values(evaluation, of, metric), _values(evaluation, role, metric)
    both = ~np.isnan(model + reference)
    return ratio_intervals(
        np.where(both, model, 0.0)[:, None],
        np.where(both, reference, 0.0)[:, None],
        **_settings(evaluation),
    )[0]


def slice_differences(
    evaluation: Evaluation,
    role: str,
    metric: str,
    *,
    slicings: list[str],
    minimum_users: int,
    allowance: dict[str, float] | None = None,
) -> list[SliceDifference]:
    """Model − (1 − allowance) · role in every slice that has enough users.

    Args:
        slicings: columns of `evaluation.users`.
        minimum_users: smaller slices are left out: their intervals say nothing.
        allowance: slicing -> relative loss that is allowed; none by default.

    Returns:
        One entry per slice; the intervals hold for all of them at once.

    Raises:
        DataError: a slicing does not exist.
    """
    model, reference = _values(evaluation, MODEL, metric), _values(evaluation, role, metric)
    both = ~np.isnan(model + reference)
    allowance = allowance or {}
    found, contrasts, members = [], [], []
    for slicing in slicings:
        if slicing not in evaluation.users.column_names:
            known = [name for name in evaluation.users.column_names if name != "user_id"]
            raise DataError(f"slices: '{slicing}' is not a slicing; found {known}")
        labels = np.array(evaluation.users[slicing].to_pylist())
        contrast = model - (1 - allowance.get(slicing, 0.0)) * reference
        for label in sorted(set(labels), key=_in_reading_order):
            inside = (labels == label) & both
            if inside.sum() >= minimum_users:
                found.append((slicing, str(label), float(reference[inside].mean())))
                contrasts.append(np.where(inside, contrast, 0.0))
                members.append(inside.astype(float))
    if not found:
        return []
    intervals = simultaneous_intervals(
        np.stack(contrasts, axis=1), np.stack(members, axis=1), **_settings(evaluation)
    )
    return [SliceDifference(*slice_, i) for slice_, i in zip(found, intervals, strict=True)]


def _in_reading_order(label: str) -> tuple[bool, int, str]:
    """ "up to 5" before "6-10" before "over 10", "decile 2" before "decile 10"."""
    number = re.search(r"\d+", label)
    return label.startswith("over"), int(number.group()) if number else 0, label


def _values(evaluation: Evaluation, role: str, metric: str) -> np.ndarray:
    table = evaluation.per_user[role]
    if metric not in table.column_names:
        raise DataError(f"metric '{metric}' is not known per user; found {table.column_names}")
    return table[metric].to_numpy()


def _settings(evaluation: Evaluation) -> dict:
    protocol = evaluation.protocol
    return {
        "confidence": protocol.confidence,
        "resamples": protocol.resamples,
        "seed": protocol.seed,
    }
