"""Temperature scaling: one number that makes a labeler's probabilities mean what they say.

Fitted on sentences that were not trained on (Guo et al., ICML 2017, section 4.2). Every logit is
divided by the same temperature, so the most probable tag of a word stays the same and only scores
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TEMPERATURES = (0.05, 20.0)
"""The range that is searched; a fit at its edge says that the labeler is badly off."""

NUM_BINS = 15
"""Bins of equal width in the expected calibration error, as customary."""


@dataclass(frozen=True)
class Calibration:
    """What `fit_temperature` found.

    `nll` is the mean negative log-likelihood per word in nats, `ece` the expected calibration
    error in 0..1; both (before, after).
    """

    temperature: float
    nll: tuple[float, float]
    ece: tuple[float, float]
    num_words: int


def fit_temperature(
    probabilities: Sequence[Tensor], tag_ids: Sequence[Sequence[int]]
) -> Calibration:
    """The temperature under which the given tags are most probable.

    Args:
        probabilities: one [words, tags] per sentence, at temperature 1.
        tag_ids: the right column for every word.

    Raises:
        ValueError: without a single word.
    """
    from scipy.optimize import minimize_scalar

    right = np.array([tag for tags in tag_ids for tag in tags], dtype=int)
    if not len(right):
        raise ValueError("there is no word to calibrate on: give labelled sentences")
    logs = torch.cat(list(probabilities)).double().clamp(min=1e-38).log().numpy()  # [words, tags]

    def loss(log_temperature: float) -> float:
        return _nll(logs / np.exp(log_temperature), right)

    bounds = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    temperature = float(np.exp(found.x))
    return Calibration(
        temperature,
        (loss(0.0), float(found.fun)),
        (_ece(logs, right), _ece(logs / temperature, right)),
        len(right),
    )


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """Softmax at `temperature`, from the softmax at 1; [..., tags] both.

    >>> tempered(torch.tensor([0.9, 0.1]), 2.0)
    tensor([0.7500, 0.2500])
    """
    if temperature == 1.0:
        return probabilities
    powers = probabilities.pow(1 / temperature)
    return powers / powers.sum(dim=-1, keepdim=True)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _nll(logits: np.ndarray, right: np.ndarray) -> float:
    return float(-_log_softmax(logits)[np.arange(len(right)), right].mean())


def _ece(logits: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between confidence and accuracy, over bins of confidence."""
    probabilities = np.exp(_log_softmax(logits))
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == right
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = [
        (bins == index).mean() * abs(confidence[bins == index].mean() - hit[bins == index].mean())
        for index in np.unique(bins)
    ]
    return float(sum(gaps))
