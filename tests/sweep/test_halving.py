"""Weak configurations leave early; what finishes is what it would have been anyway."""

import json
import re

import pytest
from safetensors.torch import load_file

from unmask.config import gray_codes
from unmask.recipe import load_recipe
from unmask.results.run import Run
from unmask.sweep.halving import RungScores, better_half

CODES = gray_codes(4)


def run(code: str, seed: int = 120) -> Run:
    return Run("tiny", "lookright", code, seed, load_recipe("tiny"), "data")


def test_the_better_half_goes_on_by_the_mean_over_seeds():
    runs = [run(code, seed) for code in ("0001", "0010", "0100", "1000") for seed in (1, 2)]
    f1 = {"0001": (0.9, 0.1), "0010": (0.6, 0.6), "0100": (0.7, 0.7), "1000": (0.2, 0.2)}
    scores = {one.id: f1[one.config][one.seed - 1] for one in runs}
    assert better_half(runs, scores) == {"0010", "0100"}


def test_all_causal_and_all_open_always_go_on():
    runs = [run(code) for code in CODES]
    scores = {one.id: float(one.config not in ("0000", "1111")) for one in runs}
    kept = better_half(runs, scores)
    assert {"0000", "1111"} < kept
    assert len(kept) == 10


def test_a_torn_line_is_scored_again_and_harms_no_other(tmp_path):
    scores = RungScores(tmp_path / "rungs.jsonl")
    scores.append(run("0000"), 5, 0.25)
    with scores.path.open("a") as file:
        file.write('{"run_id": "torn", "st')
    scores.append(run("0110"), 5, 0.5)
    assert scores.at(5) == {run("0000").id: 0.25, run("0110").id: 0.5}
    assert scores.missing([run("0000"), run("1111")], 5) == [run("1111")]
    assert scores.missing([run("0000")], 9) == [run("0000")]


@pytest.fixture
def halved(sweep):
    return sweep(configs=CODES[:6], seeds=(120,), max_steps=8, halving=True, test="none")


def test_what_finishes_equals_the_sweep_without_halving(halved, sweep, tmp_path):
    assert len(halved.by_name) < 6
    assert re.search(r"step 2: left out from here on: [01]{4}(, [01]{4})*\n", halved.said)
    whole = sweep(configs=CODES[:6], seeds=(120,), max_steps=8, test="none", out=tmp_path / "whole")
    for name, result in halved.by_name.items():
        other = whole.by_name[name]
        # Stacks of other widths round differently in float32.
        assert result.curves["train_loss"] == pytest.approx(other.curves["train_loss"], rel=1e-4)
        ours = load_file(halved.out / "runs" / result.run.id / "adapter_model.safetensors")
        theirs = load_file(whole.out / "runs" / result.run.id / "adapter_model.safetensors")
        for tensor in ours:
            assert (ours[tensor] - theirs[tensor]).abs().max() < 1e-4


def test_what_left_keeps_its_checkpoint_and_can_be_taken_up_again(halved, sweep):
    rungs = [
        json.loads(line) for line in (halved.out / "rungs.jsonl").read_text().split("\n") if line
    ]
    finished = {result.run.id for result in halved.by_name.values()}
    left = {record["run_id"] for record in rungs} - finished
    assert left
    for run_id in left:
        assert (halved.out / "runs" / run_id / "checkpoint.safetensors").exists()
    again = sweep(configs=CODES[:6], seeds=(120,), max_steps=8, test="none", out=halved.out)
    assert len(again.by_name) == 6
