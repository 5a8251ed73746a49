"""Tuning says what it takes before it takes it."""

from types import SimpleNamespace

import pytest
import torch

from unmask.instruct import memory
from unmask.instruct.packing import Row
from unmask.recipe import load_recipe

SMOLLM2 = SimpleNamespace(
    hidden_size=576, num_hidden_layers=30, intermediate_size=1536, vocab_size=49152
)
MODEL = SimpleNamespace(config=SMOLLM2, device=torch.device("cpu"))


def rows(count, length):
    return [Row((0,) * length, (0,) * length, tuple(range(length)))] * count


def recipe(**changes):
    return load_recipe("quick", compute_dtype="bfloat16", **changes)


def test_the_estimate_is_near_what_was_measured():
    """4 rows of up to 255 sub-tokens took 1.8 GiB."""
    total = 4 * 255 * memory.bytes_per_token(SMOLLM2, recipe())
    assert total == pytest.approx(1.8 * 2**30, rel=0.15)


def test_checkpointing_keeps_little_more_than_logits():
    kept = memory.bytes_per_token(SMOLLM2, recipe(gradient_checkpointing=True))
    assert kept < 0.4 * memory.bytes_per_token(SMOLLM2, recipe())


def test_too_much_is_said_with_flags_that_make_the_same_steps(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 8 * 2**30)
    line = memory.memory_line(MODEL, rows(70, 1024), recipe(batch_size=16, accumulation=2))
    assert "16 rows of up to 1024 sub-tokens: about 27.5 GiB" in line
    assert "8.0 GiB are free" in line
    assert "--batch-size 4 --accumulation 8" in line


def test_what_fits_is_not_advised_on(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 64 * 2**30)
    assert "note" not in memory.memory_line(MODEL, rows(3, 200), recipe(batch_size=16))
