from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.calibration import fit_temperature, tempered


def drawn_words(temperature: float, num_words: int = 20_000) -> tuple[torch.Tensor, list[int]]:
    """Softmax at temperature 1 of random logits, and tags drawn from the softmax at another."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(num_words, 5, generator=generator)
    right = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
    return logits.softmax(-1), right.flatten().tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_data_is_found(temperature):
    probabilities, right = drawn_words(temperature)
    found = fit_temperature([probabilities], [right])
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.num_words == 20_000


def test_calibration_lowers_both_losses_of_an_overconfident_labeler():
    probabilities, right = drawn_words(3.0)
    found = fit_temperature(probabilities.split(100), np.array(right).reshape(-1, 100).tolist())
    assert found.nll[1] < found.nll[0]
    assert found.ece[1] < 0.02 < found.ece[0]


@settings(deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=6),
    st.floats(0.3, 5),
)
def test_tempering_is_the_softmax_of_scaled_logits(logits, temperature):
    scores = torch.tensor(logits, dtype=torch.float64)
    torch.testing.assert_close(
        tempered(scores.softmax(-1), temperature), (scores / temperature).softmax(-1)
    )


def test_a_probability_of_exactly_zero_does_not_break_the_fit():
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert np.isfinite(fit_temperature([sure], [[0, 1, 1]]).temperature)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(ValueError, match="no word to calibrate on"):
        fit_temperature([], [])
