"""How near to the best of all configurations a search comes, and in how many trials.

    python benchmarks/search.py train   # all 2^8 single-layer configurations of tiny, one seed
    python benchmarks/search.py replay  # searches against those scores, without training

The first is resumable: killed at any moment, it goes on where it was. The second replays every
sampler with several search seeds through the code that `unmask sweep --search` runs; only the
training is replaced by a look into the ledger. Random proposals are there to compare with.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna
from rich.console import Console

from unmask.config import gray_codes
from unmask.recipe import load_recipe
from unmask.results.ledger import Ledger
from unmask.results.statistics import f1_of
from unmask.sweep.execute import execute, load_corpus
from unmask.sweep.plan import SearchSettings, SweepSettings
from unmask.sweep.samplers import make_sampler
from unmask.sweep.search import Space, run_search
from unmask.sweep.study import WorkedStudy, open_study

NUM_LAYERS = 8
RESULTS = Path(__file__).parent / "results" / "search.json"
SAMPLERS = ("neighbours", "tpe")


def main() -> None:
    """Train everything, or replay searches and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=("train", "replay"))
    parser.add_argument("--out", type=Path, default=Path("results/search-benchmark"))
    parser.add_argument("--seed", type=int, default=120, help="of the runs")
    parser.add_argument("--search-seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--fuse", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.do == "train":
        train_all(arguments)
    else:
        replay_all(arguments)


def train_all(arguments: argparse.Namespace) -> None:
    """Every configuration of single layers, into the ledger."""
    settings = SweepSettings(
        recipe=load_recipe("tiny"),
        configs=gray_codes(NUM_LAYERS),
        seeds=(arguments.seed,),
        out=arguments.out,
        fuse=arguments.fuse,
        test="none",
    )
    execute(settings, load_corpus(settings), Console(stderr=True, markup=False))


def replay_all(arguments: argparse.Namespace) -> None:
    """Regret of every sampler over the search seeds, as a table and as JSON."""
    known = scores_in(Ledger(arguments.out / "ledger.jsonl"), arguments.seed)
    if len(known) < 2**NUM_LAYERS:
        sys.exit(f"{len(known)} of {2**NUM_LAYERS} configurations have a score; train the others")
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
    RESULTS.write_text(
        json.dumps(
            {
                "trials": arguments.trials,
                "best_f1": best,
                "mean_f1": statistics.fmean(known.values()),
                "within_a_point": sum(score >= best - 0.01 for score in known.values()),
                "samplers": records,
            },
            indent=2,
        )
        + "\n"
    )


def replay(name: str, seed: int, num_trials: int, known: Mapping[str, float]) -> dict[str, float]:
    """Score by code of what one search tries, the two ends included."""
    if name == "random":
        drawn = random.Random(seed).sample(sorted(known), num_trials - 2)
        ends = ["0" * NUM_LAYERS, "1" * NUM_LAYERS]
        return {code: known[code] for code in [*ends, *drawn]}
    space = Space(NUM_LAYERS, NUM_LAYERS)
    search = SearchSettings(num_trials=num_trials, sampler=name, seed=seed)
    sampler = make_sampler(name, space.names, num_trials, seed)
    study = open_study(optuna.storages.InMemoryStorage(), name, sampler)
    with tempfile.TemporaryDirectory() as folder, WorkedStudy(study, Path(folder)) as worked:
        return run_search(
            worked, space, search, lambda codes: {code: known[code] for code in codes}
        )


def scores_in(ledger: Ledger, seed: int) -> dict[str, float]:
    """Validation F1 by code; a run that diverged counts as 0, as in a search."""
    return {
        result.run.config: f1_of(result, "validation") or 0.0
        for result in ledger.results()
        if result.run.seed == seed and len(result.run.config) == NUM_LAYERS
    }


if __name__ == "__main__":
    main()
