"""One optimizer per run: its rate, its clipping, its state, as if it were alone."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from unmask.recipe import PAPER, PRESETS
from unmask.stacking import own_part
from unmask.training.optimizer import RunOptimizer, learning_rate
from unmask.training.update import StackUpdate

SHAPES = {"large": (70, 64), "odd": (5, 7), "bias": (3,)}
"""The first has more than the 4096 numbers above which bitsandbytes keeps 8-bit state."""

OPTIMIZERS = ("adamw", "paged_adamw_8bit")


def stacked(runs, dtype=torch.float32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(runs, *shape, generator=generator).to(dtype))
        for name, shape in SHAPES.items()
    }


def fill_gradients(parameters, step, scale=1.0):
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter) * scale


def recipe(optimizer, **changes):
    return replace(PAPER, optimizer=optimizer, learning_rate=1e-2, **changes)


def optimizers(parameters, settings, num_steps=6, shapes=None):
    runs = len(parameters["large"])
    return [RunOptimizer(parameters, run, settings, num_steps, shapes) for run in range(runs)]


def take_step(parameters, own, index, runs=None):
    """As training does for `runs`, by default all; the norms of all."""
    update = StackUpdate(parameters, own)
    norms = update.norms().tolist()
    update.step({run: index for run in (range(len(own)) if runs is None else runs)}, norms)
    return norms


def values(parameters, run):
    return {name: parameter.data[run].clone() for name, parameter in parameters.items()}


@pytest.mark.parametrize("preset", ["paper", "as_released"])
def test_the_schedule_is_pytorch_s_cosine(preset):
    settings, num_steps = PRESETS[preset], 40
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=settings.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=int(num_steps * settings.cosine_steps_factor)
    )
    for step in range(num_steps):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(settings, step, num_steps) == pytest.approx(expected)
        optimizer.step()
        cosine.step()


def test_the_paper_s_schedule_ends_at_zero_and_the_released_one_at_0_854():
    rate = PAPER.learning_rate
    assert learning_rate(PAPER, 0, 1100) == rate == 2e-4
    assert learning_rate(PAPER, 1100, 1100) == pytest.approx(0, abs=1e-12)
    assert learning_rate(PAPER, 5000, 1100) == pytest.approx(0, abs=1e-12)
    released = PRESETS["as_released"]
    assert learning_rate(released, 1100, 1100) / rate == pytest.approx(0.854, abs=5e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_in_a_stack_is_bit_equal_to_the_run_alone(optimizer):
    """On a view of one run, blocks of 256 and the limit of 4096 fall as if it were alone."""
    together = stacked(3)
    alone = {name: nn.Parameter(p.data[1:2].clone()) for name, p in together.items()}
    first, second = optimizers(together, recipe(optimizer)), optimizers(alone, recipe(optimizer))
    for step in range(6):
        fill_gradients(together, step)
        for name, parameter in alone.items():
            parameter.grad = together[name].grad[1:2].clone()
        for run in range(3):
            take_step(together, first, step, [run])
        take_step(alone, second, step)
    for name, tensor in values(together, 1).items():
        assert torch.equal(tensor, alone[name].data[0]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_narrower_than_its_stack_is_bit_equal_to_the_run_alone(optimizer):
    """An optimizer over rows with gaps would put other numbers into a block of 256."""
    narrow = {"large": (70, 61), "odd": (3, 7), "bias": (2,)}
    together = stacked(3)
    alone = {
        name: nn.Parameter(own_part(p.data, 1, narrow[name]).clone()[None])
        for name, p in together.items()
    }
    first = optimizers(together, recipe(optimizer), shapes=narrow)
    second = optimizers(alone, recipe(optimizer))
    rest = {name: parameter.data.clone() for name, parameter in together.items()}
    for step in range(6):
        fill_gradients(together, step)
        for name, parameter in alone.items():
            own = own_part(together[name].grad, 1, narrow[name]).clone()
            parameter.grad = own[None].clone()
            # What a run does not use of its stack gets no gradient.
            together[name].grad[1] = 0
            own_part(together[name].grad, 1, narrow[name]).copy_(own)
        take_step(together, first, step, [1])
        take_step(alone, second, step)
        if step == 2:  # as after a kill
            saved = first[1].tensors()
            for name, parameter in together.items():
                own_part(parameter.data, 1, narrow[name]).zero_()
            first = optimizers(together, recipe(optimizer), shapes=narrow)
            first[1].load(saved)
    for name, parameter in together.items():
        own = own_part(parameter.data, 1, narrow[name])
        assert torch.equal(own, alone[name].data[0]), name
        own.copy_(own_part(rest[name], 1, narrow[name]))
        assert torch.equal(parameter.data, rest[name]), "something else moved too"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_moves_its_own_run_alone_and_clears_its_own_gradient_alone(optimizer):
    parameters = stacked(2)
    before = [values(parameters, run) for run in range(2)]
    fill_gradients(parameters, 0)
    take_step(parameters, optimizers(parameters, recipe(optimizer)), 0, [0])
    for name, parameter in parameters.items():
        assert not torch.equal(parameter.data[0], before[0][name])
        assert torch.equal(parameter.data[1], before[1][name])
        assert (parameter.grad[0] == 0).all()
        assert (parameter.grad[1] != 0).any()


def test_adamw_is_pytorch_s_with_clipping_over_all_of_a_run_s_tensors():
    parameters = stacked(2, torch.float64)
    settings = recipe("adamw", max_grad_norm=0.5)
    theirs = [nn.Parameter(p.data[1].clone()) for p in parameters.values()]
    reference = torch.optim.AdamW(theirs, lr=1e-2, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1)
    ours = optimizers(parameters, settings, 4)
    for step in range(4):
        fill_gradients(parameters, step)
        for mine, parameter in zip(theirs, parameters.values(), strict=True):
            mine.grad = parameter.grad[1].clone()
        norm = math.sqrt(sum(float(p.grad[1].square().sum()) for p in parameters.values()))
        torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        reference.param_groups[0]["lr"] = learning_rate(settings, step, 4)
        reference.step()
        assert take_step(parameters, ours, step, [1])[1] == pytest.approx(norm)
    for mine, parameter in zip(theirs, parameters.values(), strict=True):
        torch.testing.assert_close(parameter.data[1], mine.data, atol=1e-14, rtol=1e-12)


def test_the_8_bit_optimizer_follows_the_full_one():
    """Eight bits keep two digits of the moments: the same way, within a tenth of a step."""
    full, rounded = stacked(1), stacked(1)
    start = values(full, 0)
    for kind, parameters in (("adamw", full), ("paged_adamw_8bit", rounded)):
        own = optimizers(parameters, recipe(kind), 10)
        for step in range(5):
            fill_gradients(parameters, step)
            take_step(parameters, own, step)
    moved = (full["large"].data[0] - start["large"]).abs().mean()
    gap = (full["large"].data - rounded["large"].data).abs().mean()
    assert 0 < gap < 0.1 * moved
    # Small tensors stay in full precision.
    torch.testing.assert_close(full["bias"].data, rounded["bias"].data, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_updates_nothing(optimizer, value):
    parameters = stacked(2)
    ours = optimizers(parameters, recipe(optimizer), 4)
    before = values(parameters, 1)
    fill_gradients(parameters, 0)
    parameters["odd"].grad[1, 0, 0] = value
    assert not math.isfinite(take_step(parameters, ours, 0, [1])[1])
    for name, tensor in values(parameters, 1).items():
        assert torch.equal(tensor, before[name])
        assert (parameters[name].grad[1] == 0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_saved_state_goes_on_bit_by_bit(optimizer):
    parameters = stacked(2)
    ours = optimizers(parameters, recipe(optimizer))
    for step in range(3):
        fill_gradients(parameters, step)
        take_step(parameters, ours, step)
    resumed_parameters = stacked(2)
    resumed = optimizers(resumed_parameters, recipe(optimizer))
    resumed[1].load(ours[1].tensors())
    for step in range(3, 6):
        for own, tensors in ((ours, parameters), (resumed, resumed_parameters)):
            fill_gradients(tensors, step)
            take_step(tensors, own, step)
    for name, tensor in values(parameters, 1).items():
        assert torch.equal(tensor, resumed_parameters[name].data[1]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_saved_tensors_are_copies_and_hold_one_run(optimizer):
    parameters = stacked(2)
    own = optimizers(parameters, recipe(optimizer))
    fill_gradients(parameters, 0)
    take_step(parameters, own, 0)
    saved = own[1].tensors()
    kept = saved["weight/large"].clone()
    fill_gradients(parameters, 1)
    take_step(parameters, own, 1)
    assert torch.equal(saved["weight/large"], kept)
    assert all(t.is_contiguous() for t in saved.values())
    assert {name.split("/")[0] for name in saved} == {"weight", "state"}


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.pop("weight/odd"),
        lambda saved: saved.update({"weight/odd": torch.zeros(7, 5)}),
    ],
    ids=["missing", "shape"],
)
def test_tensors_that_do_not_fit_are_refused(change):
    ours = RunOptimizer(stacked(1), 0, recipe("adamw"), 6)
    saved = ours.tensors()
    change(saved)
    with pytest.raises(ValueError, match="the checkpoint does not fit: odd is missing or differs"):
        ours.load(saved)


def test_state_of_a_foreign_tensor_is_refused():
    ours = RunOptimizer(stacked(1), 0, recipe("adamw"), 6)
    saved = {**ours.tensors(), "state/other/exp_avg": torch.zeros(1)}
    with pytest.raises(ValueError, match="the checkpoint does not fit: it holds state of other"):
        ours.load(saved)
