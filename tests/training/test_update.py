"""Runs that step alike are moved by one call, each as its own optimizer would move it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from unmask.recipe import PAPER
from unmask.training.optimizer import RunOptimizer
from unmask.training.update import StackUpdate

SHAPES = {"blocks": (16, 512), "straddling": (70, 65), "small": (5, 7)}
"""Whole blocks of 256 in 8 bits; a part of a block left over; too small for 8 bits."""

OPTIMIZERS = ("adamw", "paged_adamw_8bit")
RUNS, STEPS = 3, 6


def stack() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(RUNS, *shape, generator=generator))
        for name, shape in SHAPES.items()
    }


def fill(parameters, step):
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def optimizers(parameters, recipes):
    return [RunOptimizer(parameters, run, own, STEPS) for run, own in enumerate(recipes)]


def step(update, runs, index):
    update.step(dict.fromkeys(runs, index), update.norms().tolist())


def one_by_one(recipes, steps=STEPS):
    """What every run's own optimizer makes of the gradients."""
    parameters = stack()
    update = StackUpdate(parameters, optimizers(parameters, recipes))
    for index in range(steps):
        fill(parameters, index)
        for run in range(RUNS):
            step(update, [run], index)
    assert update._together is None
    return parameters


def same(parameters, expected):
    return all(torch.equal(p.data, expected[name].data) for name, p in parameters.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_together_is_bit_equal_to_each_by_itself(optimizer):
    recipes = [replace(PAPER, optimizer=optimizer, learning_rate=1e-2)] * RUNS
    parameters = stack()
    update = StackUpdate(parameters, optimizers(parameters, recipes))
    for index in range(STEPS):
        fill(parameters, index)
        step(update, range(RUNS), index)
        assert all((p.grad == 0).all() for p in parameters.values())
    assert update._together is not None, "they never stepped together"
    assert same(parameters, one_by_one(recipes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_runs_part_and_join_again_without_a_trace(optimizer):
    recipes = [replace(PAPER, optimizer=optimizer, learning_rate=1e-2)] * RUNS
    parameters = stack()
    update = StackUpdate(parameters, optimizers(parameters, recipes))
    for index in range(STEPS):
        fill(parameters, index)
        if index == 3:
            for run in (2, 0, 1):
                step(update, [run], index)
        else:
            step(update, range(RUNS), index)
    assert same(parameters, one_by_one(recipes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_of_a_joined_run_goes_on_in_another_stack(optimizer):
    recipes = [replace(PAPER, optimizer=optimizer, learning_rate=1e-2)] * RUNS
    parameters = stack()
    own = optimizers(parameters, recipes)
    update = StackUpdate(parameters, own)
    for index in range(4):
        fill(parameters, index)
        step(update, range(RUNS), index)
    saved = [one.tensors() for one in own]
    for parameter in parameters.values():
        parameter.data.zero_()
    for one, tensors in zip(own, saved, strict=True):
        one.load(tensors)
    for index in range(4, STEPS):
        fill(parameters, index)
        step(update, range(RUNS), index)
    assert same(parameters, one_by_one(recipes))


def test_runs_of_other_rates_step_each_by_itself():
    recipes = [replace(PAPER, optimizer="adamw", learning_rate=rate) for rate in (1e-2, 1e-2, 3e-3)]
    parameters = stack()
    update = StackUpdate(parameters, optimizers(parameters, recipes))
    for index in range(STEPS):
        fill(parameters, index)
        step(update, range(RUNS), index)
    assert update._together is None
    assert same(parameters, one_by_one(recipes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_is_not_finite_leaves_the_others_their_steps(optimizer):
    recipes = [replace(PAPER, optimizer=optimizer, learning_rate=1e-2)] * RUNS
    parameters, expected = stack(), one_by_one(recipes, 4)
    update = StackUpdate(parameters, optimizers(parameters, recipes))
    for index in range(3):
        fill(parameters, index)
        step(update, range(RUNS), index)
    fill(parameters, 3)
    parameters["small"].grad[1, 2, 2] = float("nan")
    before = {name: p.data[1].clone() for name, p in parameters.items()}
    step(update, range(RUNS), 3)
    for name, parameter in parameters.items():
        assert torch.equal(parameter.data[1], before[name])
        assert torch.equal(parameter.data[0], expected[name].data[0])
        assert torch.equal(parameter.data[2], expected[name].data[2])
        assert (parameter.grad == 0).all()
