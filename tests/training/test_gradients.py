"""What is done to all gradients of a stack at once is what each run would get alone."""

import pytest
import torch
from torch import nn

from unmask.training import gradients as module
from unmask.training.gradients import AT_ONCE, Gradients

SHAPES = [(3, 4, 5), (3, 2), (3, 4, 5), (3, 7, 1)]


@pytest.fixture
def parameters():
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture
def gradients(parameters):
    return Gradients(parameters)


def grads(parameters):
    return [p.grad.clone() for p in parameters]


def test_those_that_were_there_stay_and_parameters_of_one_shape_share_memory(parameters):
    before = grads(parameters)
    held = Gradients(parameters).held()
    assert [tuple(x.shape) for x in held] == [(2, 3, 4, 5), (1, 3, 2), (1, 3, 7, 1)]
    assert all(torch.equal(p.grad, old) for p, old in zip(parameters, before, strict=True))
    held[0].zero_()
    assert not parameters[0].grad.any()
    assert not parameters[2].grad.any()
    assert parameters[1].grad.any()


@pytest.mark.parametrize("at_once", [1, 120, AT_ONCE])
def test_norms_are_those_of_each_run(parameters, gradients, monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    whole = [torch.cat([g[run].flatten() for g in grads(parameters)]) for run in range(3)]
    expected = torch.stack([run.double().norm() for run in whole])
    torch.testing.assert_close(gradients.norms(), expected, rtol=1e-14, atol=0)


def test_each_run_has_its_own_factor(parameters, gradients):
    before = grads(parameters)
    gradients.scale([0.5, 1.0, 0.0])
    for parameter, old in zip(parameters, before, strict=True):
        assert torch.equal(parameter.grad[0], old[0] * 0.5)
        assert torch.equal(parameter.grad[1], old[1])
        assert not parameter.grad[2].any()


def test_some_are_cleared_and_the_others_are_not(parameters, gradients):
    before = grads(parameters)
    gradients.clear([0, 2])
    for parameter, old in zip(parameters, before, strict=True):
        assert not parameter.grad[[0, 2]].any()
        assert torch.equal(parameter.grad[1], old[1])
    gradients.clear([0, 1, 2])
    assert not any(p.grad.any() for p in parameters)


def test_one_that_was_put_elsewhere_is_taken_over(parameters, gradients):
    parameters[0].grad = torch.ones(3, 4, 5)
    parameters[1].grad = None
    gradients.scale([2.0, 2.0, 2.0])
    first, second, *_ = grads(parameters)
    assert (first == 2).all()
    assert not second.any()
    assert (gradients.held()[0][0] == 2).all()
