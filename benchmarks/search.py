"""How near to the best of all configurations a search comes, and in how many trials.

    python benchmarks/search.py train   # all 2^8 single-layer configurations of tiny, one seed
    python benchmarks/search.py replay  # searches against those scores, without training
    python benchmarks/search.py search  # one search that trains, against the same scores

The first is resumable: killed at any moment, it goes on where it was; in the end it writes the
scores to results/search_scores.json. The second replays every sampler with several search seeds
through the code that `unmask sweep --search` runs; only the training is replaced by a look into
that file. Random proposals are there to compare with.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from rich.console import Console

from unmask.config import gray_codes
from unmask.recipe import load_recipe
from unmask.results.statistics import f1_of
from unmask.sweep.execute import execute, load_corpus
from unmask.sweep.plan import SearchSettings, SweepSettings
from unmask.sweep.samplers import make_sampler
from unmask.sweep.search import run_search
from unmask.sweep.space import Candidate, Space
from unmask.sweep.study import WorkedStudy, open_study

NUM_LAYERS = 8
RESULTS = Path(__file__).parent / "results"
SCORES = RESULTS / "search_scores.json"
SAMPLERS = ("neighbours", "tpe")


def main() -> None:
    """Train everything, replay searches, or search for real."""
    parser = argparse.ArgumentParser(description="How near to the best a search comes.")
    parser.add_argument("do", choices=("train", "replay", "search"))
    parser.add_argument("--out", type=Path, default=Path("results/search-benchmark"))
    parser.add_argument("--seed", type=int, default=120, help="of the runs")
    parser.add_argument("--search-seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--fuse", type=int, default=16)
    arguments = parser.parse_args()
    {"train": train_all, "replay": replay_all, "search": search_for_real}[arguments.do](arguments)


def train_all(arguments: argparse.Namespace) -> None:
    """Every configuration of single layers, into the ledger; then the scores into their file."""
    settings = SweepSettings(
        recipe=load_recipe("tiny"),
        configs=gray_codes(NUM_LAYERS),
        seeds=(arguments.seed,),
        out=arguments.out,
        fuse=arguments.fuse,
        test="none",
    )
    ledger = execute(settings, load_corpus(settings), console())
    results = [one for one in ledger.results() if one.run.seed == arguments.seed]
    # A run that diverged counts as 0, as in a search.
    scores = {one.run.config: f1_of(one, "validation") or 0.0 for one in results}
    write_json(
        SCORES,
        {
            "seed": arguments.seed,
            "run": {**results[0].run.to_dict(), "config": "all 2^8"},
            "environment": results[0].environment,
            "train_seconds": sum(one.timings["train_seconds"] for one in results),
            "validation_f1": scores,
        },
    )


def replay_all(arguments: argparse.Namespace) -> None:
    """Regret of every sampler over the search seeds, as a table and as JSON."""
    known = known_scores()
    best = max(known.values())
    records = []
    for name in (*SAMPLERS, "random"):
        regrets = [
            best - max(replay(name, seed, arguments.trials, known).values())
            for seed in range(arguments.search_seeds)
        ]
        median = statistics.median(regrets)
        records.append({"sampler": name, "regrets": regrets, "median_regret": median})
        print(f"{name:<12} regret after {arguments.trials} trials: median {median:.4f}, {regrets}")
    write_json(
        RESULTS / "search.json",
        {
            "trials": arguments.trials,
            "best_f1": best,
            "mean_f1": statistics.fmean(known.values()),
            "within_a_point": sum(score >= best - 0.01 for score in known.values()),
            "samplers": records,
        },
    )


def search_for_real(arguments: argparse.Namespace) -> None:
    """One search that trains its trials, held against the exhaustive sweep."""
    known = known_scores()
    settings = SweepSettings(
        recipe=load_recipe("tiny"),
        search=SearchSettings(num_trials=arguments.trials),
        seeds=(arguments.seed,),
        out=arguments.out / "searched",
        fuse=arguments.fuse,
        test="none",
    )
    ledger = execute(settings, load_corpus(settings), console())
    found = {one.run.config: f1_of(one, "validation") or 0.0 for one in ledger.results()}
    best = max(found, key=lambda code: found[code])
    print(
        f"{len(found)} configurations trained, best {best} at {found[best]:.4f} (exhaustive: "
        f"{known[best]:.4f}); the best of all has {max(known.values()):.4f}"
    )


def console() -> Console:
    """Where sweeps say how far they are."""
    return Console(stderr=True, markup=False, soft_wrap=True)


def known_scores() -> dict[str, float]:
    """Validation F1 by code, of the exhaustive sweep."""
    if not SCORES.exists():
        sys.exit(f"{SCORES} is missing: run this with train first")
    known: dict[str, float] = json.loads(SCORES.read_text())["validation_f1"]
    if len(known) < 2**NUM_LAYERS:
        sys.exit(f"{len(known)} of {2**NUM_LAYERS} configurations have a score; train the others")
    return known


def write_json(path: Path, values: dict) -> None:
    """Indented, so that changes can be read."""
    path.write_text(json.dumps(values, indent=1) + "\n")


def replay(name: str, seed: int, num_trials: int, known: Mapping[str, float]) -> dict[str, float]:
    """Score by code of what one search tries, the two ends included."""
    if name == "random":
        drawn = random.Random(seed).sample(sorted(known), num_trials - 2)
        ends = ["0" * NUM_LAYERS, "1" * NUM_LAYERS]
        return {code: known[code] for code in [*ends, *drawn]}
    space = Space(NUM_LAYERS, NUM_LAYERS)
    search = SearchSettings(num_trials=num_trials, sampler=name, seed=seed)
    sampler = make_sampler(name, space, num_trials, seed)
    study = open_study(optuna.storages.InMemoryStorage(), name, sampler)
    with tempfile.TemporaryDirectory() as folder, WorkedStudy(study, Path(folder)) as worked:
        found = run_search(worked, space, search, LookUp(known), load_recipe("tiny"))
    return {candidate.code: score for candidate, score in found.items()}


class LookUp:
    """Scores that are known, in place of training."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known = known

    def scores(self, candidates: Sequence[Candidate]) -> dict[Candidate, float]:
        """What the exhaustive sweep found."""
        return {candidate: self.known[candidate.code] for candidate in candidates}

    def at_rung(self, candidates: Sequence[Candidate], share: float) -> dict[Candidate, float]:
        """None: nothing is pruned here."""
        return {}


if __name__ == "__main__":
    main()
