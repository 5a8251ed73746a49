import io
from dataclasses import replace

import pytest
from rich.console import Console

from unmask.results.ledger import Ledger
from unmask.scale import finetune
from unmask.scale.finetune import Finetuning
from unmask.scale.plan import planned
from unmask.scale.settings import SMALL_FINETUNING
from unmask.scale.stacks import StackLoop, evenly

ONE_STEP = replace(SMALL_FINETUNING, max_steps=1)


@pytest.fixture
def study(checkpoints, corpus, tokenizer, tmp_path):
    """A loop over an encoder's and a decoder's checkpoint, two seeds; its plan and its words."""
    pair = [checkpoints[kind, "roberta"] for kind in ("encoder", "decoder")]
    plan = list(planned(pair, 2, corpus.name, (120, 121), ONE_STEP, corpus.fingerprint()))
    said, ledger = io.StringIO(), Ledger(tmp_path / "ledger.jsonl")
    finetuning = Finetuning.of(corpus, ONE_STEP, tokenizer, "cpu")
    return StackLoop(finetuning, ledger, Console(file=said, width=200)), plan, said


@pytest.fixture
def widths(monkeypatch):
    """How many runs each call of the trainer was given; `widths.most`: beyond it memory is out."""
    fit = finetune.fit

    class Widths(list):
        most = 99
        stacks = 99

    found = Widths()

    def counted(model, trainees, **kwargs):
        if len(found) == found.stacks:
            raise KeyboardInterrupt
        found.append(len(trainees))
        if len(trainees) > found.most:
            raise MemoryError
        fit(model, trainees, **kwargs)

    monkeypatch.setattr(finetune, "fit", counted)
    return found


def test_a_stack_holds_all_runs_of_one_checkpoint(study, widths):
    loop, plan, said = study
    loop.work_off(plan)
    assert widths == [2, 4]
    assert [result.run for result in loop.ledger.results()] == [run for _, run in plan]
    assert "runs per forward pass: 4, estimated" in said.getvalue()


def test_as_many_are_fused_as_was_asked_for(study, widths):
    loop, plan, said = study
    loop.work_off(plan, fuse=3)
    assert widths == [2, 2, 2]  # four in two stacks: evenly
    assert "runs per forward pass: 3, estimated" in said.getvalue()


def test_out_of_memory_halves_the_stack_until_it_fits(study, widths):
    loop, plan, said = study
    widths.most = 1
    loop.work_off(plan)
    assert widths == [2, 1, 1, 1, 1, 1, 1]
    assert "warning: out of memory; runs per forward pass from here: 1" in said.getvalue()
    assert len(loop.ledger.results()) == len(plan)


def test_a_run_alone_that_does_not_fit_is_an_error(study, widths):
    loop, plan, _ = study
    widths.most = 0
    with pytest.raises(MemoryError):
        loop.work_off(plan)


def test_a_kill_costs_the_stack_that_was_under_way(study, widths):
    loop, plan, _ = study
    widths.stacks = 1
    with pytest.raises(KeyboardInterrupt):
        loop.work_off(plan)
    assert [result.run.config for result in loop.ledger.results()] == ["encoder"] * 2
    widths.stacks = 99
    loop.work_off(plan)
    assert widths == [2, 4]
    assert len(loop.ledger.results()) == len(plan)


def test_a_run_that_diverges_is_told_and_the_others_are_written_down(study, monkeypatch):
    loop, plan, said = study
    build = finetune.FullLabelers

    def broken(*args):
        model = build(*args)
        model.score_weight.data[1] = float("inf")
        return model

    monkeypatch.setattr(finetune, "FullLabelers", broken)
    loop.work_off(plan[:2])
    statuses = [result.status for result in loop.ledger.results()]
    assert statuses == ["finished", "diverged"]
    assert "/encoder/seed121 diverged: its loss or gradient was no finite" in said.getvalue()


def test_stacks_are_about_as_wide_as_each_other():
    assert [len(evenly(list(range(10)), width)) for width in (1, 4, 8, 9, 10, 16)] == [  # pyright: ignore[reportArgumentType]
        1, 4, 5, 5, 10, 10,
    ]  # fmt: skip
