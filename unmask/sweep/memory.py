"""How much memory stacks really take, to hold the estimate against.

On a CPU this is resident memory, which allocators do not give back at once: what counts is the
peak above what was in use before the first stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Makes Linux forget the largest resident size so far, see proc_pid_clear_refs(5)."""


class MemoryMeter:
    """Remembers what was in use when it was made, and measures peaks above that."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = self._in_use()
        self.reset()

    def reset(self) -> None:
        """Forget the peak so far."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif CLEAR.exists():
            CLEAR.write_text(RESET_PEAK)

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """What is in use after the block and was not before it belongs to no stack.

        The first scores, for one, load libraries that stay.
        """
        start = self._in_use()
        yield
        end = self._in_use()
        if self.before is not None and start is not None and end is not None:
            self.before += end - start

    def peak(self) -> int | None:
        """Bytes above what was in use before, at the highest point since the last reset.

        None where the system does not tell.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - (self.before or 0)
        highest = _status("VmHWM")
        return None if highest is None or self.before is None else max(highest - self.before, 0)

    def _in_use(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return _status("VmRSS")


def _status(field: str) -> int | None:
    """A size from /proc/self/status, in bytes."""
    if not STATUS.exists():
        return None
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
