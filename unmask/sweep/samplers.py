"""Who proposes the next configuration: three samplers for a space of bits.

Every argument of Optuna's samplers is written out, because its defaults change between major
versions (5.0 made TPE multivariate). The one thing that is easy to get wrong: samplers may
propose what was tried before; `search` sets such proposals aside, so they cost nothing.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner
from optuna.samplers import BaseSampler, BruteForceSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from unmask.sweep.space import Space, bit_space

SAMPLERS = ("auto", "neighbours", "tpe", "brute-force")

Bits = tuple[int, ...]


def make_sampler(name: str, space: Space, num_trials: int, seed: int) -> BaseSampler:
    """The named sampler over a space; `auto` is exhaustive where the trials suffice.

    Otherwise `auto` is the sampler that knows bits or, where the recipe is searched too, TPE.

    Raises:
        ValueError: for a sampler that there is not, or that does not know such a space.
    """
    if name not in SAMPLERS:
        raise ValueError(f"--sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    if name == "auto":
        rest = "tpe" if space.dimensions else "neighbours"
        name = "brute-force" if space.size <= num_trials else rest
    if name == "brute-force" and math.isinf(space.size):
        raise ValueError("--sampler brute-force cannot try every value of a range: name choices")
    if name == "neighbours" and space.dimensions:
        raise ValueError("--sampler neighbours knows bits only: take tpe with --search-over")
    if name == "brute-force":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return EverySampler(seed=seed, avoid_premature_stop=True)
    if name == "tpe":
        return TPESampler(**TPE_ARGUMENTS, seed=seed)
    return NeighbourSampler(space.names, seed)


def make_pruner() -> BasePruner:
    """Ends a trial whose validation F1 at a rung is below the median of those that finished."""
    return MedianPruner(n_startup_trials=5, n_warmup_steps=0, interval_steps=1, n_min_trials=1)


TPE_ARGUMENTS: dict[str, Any] = {
    "n_startup_trials": 10,
    "n_ei_candidates": 24,
    "multivariate": True,
    "group": False,
    "constant_liar": True,
    # Deprecated, and None the only value that Optuna takes without a warning.
    "consider_prior": None,
    "prior_weight": None,
    "consider_magic_clip": None,
    "consider_endpoints": None,
    "gamma": None,
    "weights": None,
    "warn_independent_sampling": None,
    "constraints_func": None,
}


class EverySampler(BruteForceSampler):
    """Optuna's exhaustive sampler, for a study whose trials are asked and told."""

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the original stops `Study.optimize`, which is not running."""


class NeighbourSampler(BaseSampler):
    """Proposes untried configurations one or two flips from the best, likeliest first.

    A ridge regression on the bits and on neighbouring pairs of bits (an open layer may matter
    only where the next is open too) says which of them is likeliest. The first proposals, and
    one in ten later, are drawn at random: a model of what was never seen is worth nothing.

    Args:
        names: the bits, input side first.
        seed: of the random proposals.
        num_random: trials that are to be finished before the model is asked; by default as many
            as there are bits.
    """

    NUM_BEST = 5
    SHARE_RANDOM = 0.1
    RIDGE = 1.0

    def __init__(self, names: Sequence[str], seed: int, num_random: int | None = None) -> None:
        self.names = list(names)
        self.num_random = len(self.names) if num_random is None else num_random
        self._rng = random.Random(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All bits: they are proposed together."""
        return dict(bit_space(self.names))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration, as {name: 0 or 1}."""
        states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED)
        known = [
            one
            for one in study.get_trials(deepcopy=False, states=states)
            if one.number != trial.number and set(self.names) <= set(one.params)
        ]
        scores = {
            self._bits(one): score
            for one in known
            if (score := score_or_guess(one, known)) is not None
        }
        tried = {self._bits(one) for one in known}
        return dict(zip(self.names, self.propose(scores, tried), strict=True))

    def _bits(self, trial: FrozenTrial) -> Bits:
        return tuple(trial.params[name] for name in self.names)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A bit that is not one of ours: by chance."""
        return self._rng.randint(0, 1)

    def propose(self, scores: Mapping[Bits, float], tried: set[Bits]) -> Bits:
        """The next configuration, given the scores so far and what is tried or under way."""
        if len(scores) < max(2, self.num_random) or self._rng.random() < self.SHARE_RANDOM:
            return untried(len(self.names), tried, self._rng)
        best = sorted(scores, key=lambda bits: (-scores[bits], bits))[: self.NUM_BEST]
        near = sorted({other for bits in best for other in _flips(bits)} - tried)
        if not near:
            return untried(len(self.names), tried, self._rng)
        predicted = _predict(scores, near, self.RIDGE)
        return near[int(np.argmax(predicted))]


def score_or_guess(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> float | None:
    """The score of a finished trial; for a pruned one what it would have come to.

    That is its last score plus what finished trials gained from that rung on, on average.
    """
    if trial.state == TrialState.COMPLETE:
        return trial.value
    rung = trial.last_step
    if trial.state != TrialState.PRUNED or rung is None:
        return None
    gains = [
        one.value - one.intermediate_values[rung]
        for one in others
        if one.state == TrialState.COMPLETE
        and one.value is not None
        and rung in one.intermediate_values
    ]
    return trial.intermediate_values[rung] + (fmean(gains) if gains else 0.0)


def untried(num_bits: int, tried: set[Bits], rng: random.Random) -> Bits:
    """A configuration by chance that is not in `tried`, unless all are.

    Half of them are of few blocks of equal bits, as configurations by groups are.
    """
    if len(tried) >= 2**num_bits:
        return tuple(rng.randint(0, 1) for _ in range(num_bits))
    while True:
        blocky = rng.random() < 0.5
        bits = [rng.randint(0, 1)]
        while len(bits) < num_bits:
            bits.append(bits[-1] if blocky and rng.random() < 0.7 else rng.randint(0, 1))
        if tuple(bits) not in tried:
            return tuple(bits)


def _flips(bits: Bits) -> set[Bits]:
    """What is one or two flips away."""
    one = {_flip(bits, index) for index in range(len(bits))}
    return (one | {_flip(bits, i) for bits in one for i in range(len(bits))}) - {bits}


def _flip(bits: Bits, index: int) -> Bits:
    return (*bits[:index], 1 - bits[index], *bits[index + 1 :])


def _predict(scores: Mapping[Bits, float], wanted: Sequence[Bits], ridge: float) -> np.ndarray:
    """[wanted]: scores by a ridge regression on the configurations that have one."""
    known = _features(list(scores))
    values = np.array(list(scores.values()))
    centre = known.mean(axis=0)
    gram = (known - centre).T @ (known - centre) + ridge * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, (known - centre).T @ (values - values.mean()))
    return values.mean() + (_features(wanted) - centre) @ weights


def _features(codes: Sequence[Bits]) -> np.ndarray:
    """[codes, 2 * bits - 1]: the bits as -1 and 1, and the products of neighbours."""
    signs = 2.0 * np.array(codes) - 1.0
    return np.concatenate([signs, signs[:, 1:] * signs[:, :-1]], axis=1)
