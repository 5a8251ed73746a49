"""Made-up results. No number here was measured."""

from dataclasses import replace

import pytest

from unmask.recipe import PAPER
from unmask.results.run import Run, RunResult


def made_up_scores(f1, **changes):
    row = {"f1": f1, "precision": f1, "recall": f1, "support": 40}
    return {
        **row,
        "per_label": {"PER": {**row, "support": 25}, "LOC": {**row, "support": 15}},
        "num_sentences": 20,
        "num_words": 300,
        "num_truncated_words": 0,
        "mode": "strict",
        "scheme": "IOB2",
        **changes,
    }


@pytest.fixture(scope="session")
def make_result():
    """A function that makes one RunResult; every part can be replaced by name."""

    def make(config="0110", seed=120, validation=0.9, test=None, recipe=None, **changes):
        sentences = {"num_sentences": changes.pop("num_sentences", 20)}
        run_fields = {
            name: changes.pop(name)
            for name in ("backbone", "task", "data_fingerprint")
            if name in changes
        }
        run = Run(
            backbone="tiny",
            task="made_up",
            config=config,
            seed=seed,
            recipe=recipe or PAPER,
            data_fingerprint="0" * 16,
        )
        scores = (
            {"validation": made_up_scores(validation, **sentences)}
            if validation is not None
            else {}
        )
        if test is not None:
            scores["test"] = made_up_scores(test, **sentences)
        result = RunResult(
            run=replace(run, **run_fields),
            scores=scores,
            curves={"train_loss": [2.0, 1.0, 0.5]},
            timings={"train_seconds": 12.5, "tokens_per_second": 1000.0},
            environment={"python": "3.11"},
        )
        return replace(result, **changes)

    return make
