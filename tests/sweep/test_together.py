"""Sweeps of several tasks and recipes on one backbone share its forward passes."""

import io
from dataclasses import replace

import pytest
from peft import PeftConfig
from rich.console import Console

import unmask.sweep.stack
from unmask.data.lookright import generate
from unmask.model import UnmaskedForTokenClassification
from unmask.recipe import load_recipe
from unmask.sweep.execute import execute_together, load_corpus
from unmask.training.fit import fit


@pytest.fixture
def sweeps(settings, fewer_labels_dir):
    """Two tasks; the second at another rate and rank, and with fewer steps."""
    other = load_recipe("tiny", max_steps=2, learning_rate=2e-2, lora_rank=5, lora_alpha=7)
    return [
        settings(max_steps=4),
        settings(task="fewer", data_dir=fewer_labels_dir, recipe=other, configs=("0000", "1111")),
    ]


def run(sweeps):
    console = Console(file=io.StringIO(), markup=False, soft_wrap=True)
    ledger = execute_together([(one, load_corpus(one)) for one in sweeps], console)
    return {result.run.name: result for result in ledger.results()}, console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture
def watched(monkeypatch):
    """How many runs each stack began with."""
    widths = []

    def note(model, trainees, *args, **kwargs):
        widths.append(len(trainees))
        fit(model, trainees, *args, **kwargs)

    monkeypatch.setattr(unmask.sweep.stack, "fit", note)
    return widths


def test_tasks_and_recipes_share_a_stack_and_end_as_if_alone(sweeps, tmp_path, watched):
    together, said = run(sweeps)
    assert watched == [4]
    assert said.count("backbone: tiny") == 1
    assert said.count("chosen on validation: ") == 2
    alone = {}
    for index, one in enumerate(sweeps):
        found, _ = run([replace(one, out=tmp_path / f"alone{index}")])
        alone.update(found)
    assert set(alone) == set(together)
    for name, result in together.items():
        losses = alone[name].curves["train_loss"]
        # In float32, stacks of other widths round differently.
        assert result.curves["train_loss"] == pytest.approx(losses, rel=1e-4)
        assert result.scores == alone[name].scores
        assert result.timings["train_tokens"] == alone[name].timings["train_tokens"]


def test_a_run_that_waits_takes_the_place_of_the_first_that_ends(sweeps, tmp_path, watched):
    """Three at a time: two runs of four steps and one of two, whose place the fourth takes."""
    together, _ = run([replace(one, fuse=3) for one in sweeps])
    assert watched == [3]
    in_order = [name.removeprefix("tiny/").removesuffix("/seed120") for name in together]
    assert in_order == ["fewer/0000", "small/0000", "small/0110", "fewer/1111"]
    alone, _ = run([replace(sweeps[1], out=tmp_path / "alone")])
    late = "tiny/fewer/1111/seed120"
    losses = alone[late].curves["train_loss"]
    assert together[late].curves["train_loss"] == pytest.approx(losses, rel=1e-4)
    assert together[late].scores["validation"] == alone[late].scores["validation"]


def test_a_run_that_a_stack_is_too_narrow_for_waits_for_the_next(sweeps, watched):
    """Adapters of rank 16 do not fit where 5 is the widest."""
    together, _ = run([replace(one, fuse=1) for one in reversed(sweeps)])
    assert watched == [1, 1]
    assert len(together) == 4


def test_every_run_of_a_mixed_stack_leaves_an_adapter_of_its_own_shape(sweeps):
    together, _ = run(sweeps)
    labels = {"small": generate().labels, "fewer": generate().labels[:1]}
    for result in together.values():
        folder = sweeps[0].out / "runs" / result.run.id
        labeler = UnmaskedForTokenClassification.from_pretrained(folder)
        assert labeler.labels == labels[result.run.task]
        assert labeler.run_lora[0].rank == result.run.recipe.lora_rank
        assert PeftConfig.from_pretrained(str(folder)).r == result.run.recipe.lora_rank  # pyright: ignore[reportAttributeAccessIssue]
        assert labeler.verify_mask().agrees


def test_a_run_that_two_sweeps_want_is_trained_once(settings):
    once, twice = settings(configs=("0000", "0110")), settings(configs=("0110", "1111"))
    together, _ = run([once, twice])
    assert len(together) == 3


def test_recipes_that_cannot_share_a_stack_are_trained_one_after_the_other(settings):
    shorter = load_recipe("tiny", max_steps=1, max_subtokens=64)
    one, other = settings(max_steps=1), settings(recipe=shorter, configs=("1111",))
    together, said = run([one, other])
    assert len(together) == 3
    assert said.count("runs per forward pass: ") == 2
