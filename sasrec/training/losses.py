"""Next-item losses, one value per event; y⁺ is the score of the item that came next.

Scores are products of a hidden state with item embeddings. Losses that sample take the scores of
n negatives; a negative that happens to be the event's own target carries the score `MASKED`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import next_item_cross_entropy, sampled_cross_entropy

# Far below any score, yet finite, so that a softmax over nothing but collisions is not NaN.
MASKED = -1e4


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """-ln Σⱼ sⱼ σ(y⁺ - yⱼ) with s = softmax(y), y the scores of the negatives.

    One negative gives BPR, -ln σ(y⁺ - y⁻) (Rendle et al. 2009, section 4.1); many give BPR-max
    without its score regularisation (Hidasi & Karatzoglou 2018, equation 8).

    Args:
        positive: (T,) scores y⁺.
        negative: (T, n) scores y.

    Returns:
        (T,) losses.
    """
    log_weights = F.log_softmax(negative, dim=1)
    return -torch.logsumexp(log_weights + F.logsigmoid(positive[:, None] - negative), dim=1)


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """-ln σ(y⁺) - Σⱼ ln(1 - σ(yⱼ)) (Kang & McAuley 2018, equation 7, with n negatives).

    Args:
        positive: (T,) scores.
        negative: (T, n) scores.

    Returns:
        (T,) losses.
    """
    return F.softplus(-positive) + F.softplus(negative).sum(1)


def gbce(positive: Tensor, negative: Tensor, *, num_items: int, calibration: float) -> Tensor:
    """(-β ln σ(y⁺) - Σⱼ ln(1 - σ(yⱼ))) / (n + 1) (Petrov & Macdonald 2023, equations 12 and 16).

    β = α(t(1 - 1/α) + 1/α) with sampling rate α = n / (V - 1) undoes, as far as the calibration t
    says, the overconfidence that sampling negatives causes; t = 0 gives BCE.

    Args:
        positive: (T,) scores.
        negative: (T, n) scores.
        num_items: V.
        calibration: t in [0, 1].

    Returns:
        (T,) losses.
    """
    n = negative.shape[1]
    rate = n / max(num_items - 1, n)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    return (beta * F.softplus(-positive) + F.softplus(negative).sum(1)) / (n + 1)


def cross_entropy(hidden: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
    """-y⁺ + ln Σᵢ exp(yᵢ) over the whole catalogue (Klenitskiy & Vasilev 2023, equation 5).

    Args:
        hidden: (T, dim).
        candidates: (N, dim) embeddings of the catalogue, padding left out.
        targets: (T,) int64, rows of `candidates`.

    Returns:
        (T,) losses.
    """
    return next_item_cross_entropy(hidden, candidates, targets, reduction="none")


def sampled_softmax(
    hidden: Tensor,
    item_matrix: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_q: Tensor,
) -> Tensor:
    """-s⁺ + ln(exp(s⁺) + Σⱼ exp(sⱼ)) with s = y - ln q, the logQ correction of the proposal q.

    Bengio & Senécal 2008; Yi et al. 2019, section 4. A negative that is the event's own target
    does not count.

    Args:
        hidden: (T, dim).
        item_matrix: (V + 1, dim).
        targets: (T,) int64.
        negatives: (n,) int64, drawn from q and shared by all events.
        log_q: (V + 1,) log-probability of each item under q.

    Returns:
        (T,) losses.
    """
    return sampled_cross_entropy(
        hidden,
        item_matrix,
        targets,
        negatives,
        target_log_q=log_q[targets],
        negative_log_q=log_q[negatives],
        reduction="none",
    )


def candidate_scores(
    hidden: Tensor, item_matrix: Tensor, targets: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores of the target and of the negatives of each event.

    Args:
        hidden: (T, dim).
        item_matrix: (V + 1, dim).
        targets: (T,) int64.
        negatives: (n,) shared by all events, scored by one matrix product; or (T, n), an event's
            own, which gathers (T, n, dim) and so suits small n only.

    Returns:
        (T,) and (T, n) float32; the score of a negative equal to the target is `MASKED`.
    """
    positive = (hidden * F.embedding(targets, item_matrix)).sum(-1)
    embedded = F.embedding(negatives, item_matrix)
    shared = negatives.ndim == 1
    negative = hidden @ embedded.T if shared else (hidden[:, None] * embedded).sum(-1)
    collisions = negatives == targets[:, None]
    return positive.float(), negative.float().masked_fill(collisions, MASKED)


def inverse_propensity_weights(propensities: np.ndarray, clip: float = 10.0) -> np.ndarray:
    """Inverse-propensity weights, clipped and self-normalised to a mean of one.

    An event weighs 1/p, so that items the logging policy seldom served count as much as it would
    have if all were served alike (Schnabel et al. 2016, equation 10); clipping bounds the variance.
    The bound is relative, since 1/p itself grows with the catalogue.

    Args:
        propensities: (T,) probability with which each event's item was served; NaN where none was
            logged, which weighs as much as the average of those that were.
        clip: largest weight, as a multiple of the median one.

    Returns:
        (T,) float32.

    Raises:
        ValueError: a propensity outside (0, 1].
    """
    logged = ~np.isnan(propensities)
    wrong = logged & ((propensities <= 0) | (propensities > 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"propensities: {propensities[row]} at row {row} is outside (0, 1]")
    weights = np.ones(len(propensities), dtype=np.float32)
    if logged.any():
        inverse = 1 / propensities[logged]
        inverse = np.minimum(inverse, clip * np.median(inverse))
        weights[logged] = inverse / inverse.mean()
    return weights
