import pytest
import torch

from unmask.sweep import memory as module
from unmask.sweep.memory import MemoryMeter

CPU = torch.device("cpu")
MIB = 2**20

needs_proc = pytest.mark.skipif(not module.CLEAR.exists(), reason="needs Linux' /proc")


@needs_proc
def test_the_peak_is_what_was_taken_at_once_also_after_it_was_given_back():
    meter = MemoryMeter(CPU)
    del_me = bytearray(300 * MIB)
    del del_me
    peak = meter.peak()
    assert peak is not None
    assert 290 * MIB < peak < 340 * MIB
    meter.reset()
    after = meter.peak()
    assert after is not None
    assert after < 50 * MIB


@needs_proc
def test_what_stays_from_a_block_that_is_not_counted_is_no_part_of_the_peak():
    meter = MemoryMeter(CPU)
    with meter.not_counted():
        kept = bytearray(300 * MIB)
    peak = meter.peak()
    assert peak is not None
    assert peak < 50 * MIB
    more = bytearray(300 * MIB)
    peak = meter.peak()
    assert peak is not None
    assert 290 * MIB < peak < 350 * MIB
    del kept, more


def test_without_proc_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "STATUS", tmp_path / "none")
    monkeypatch.setattr(module, "CLEAR", tmp_path / "none")
    assert MemoryMeter(CPU).peak() is None
