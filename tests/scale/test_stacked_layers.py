import pytest
import torch
from torch import nn

from unmask.route import Route
from unmask.scale.stacked_layers import stack_layers


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))


def test_weights_that_runs_would_share_are_refused_and_nothing_is_changed():
    model = nn.Sequential(Scaled())
    with pytest.raises(ValueError, match=r"all runs of a stack would share 0\.scale of Sequential"):
        stack_layers(model, 3, Route(), torch.float32)
    assert type(model.get_submodule("0.inner")) is nn.Linear


def test_outside_the_route_a_stacked_layer_raises():
    model = nn.Sequential(nn.Embedding(5, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    stack_layers(model, 3, Route(), torch.float32)
    for layer in model:
        with pytest.raises(RuntimeError, match="no route"):
            layer(torch.zeros(1, 4, 2) if layer is not model[0] else torch.zeros(1, 4).long())
