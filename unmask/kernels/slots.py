"""How the tokens of many runs, which lie one after another, are cut into tiles in Triton.

Every run is cut from its own first token. Nothing is asked of the device on the way: a grid of
`tokens // block + runs` slots is always enough, and each program finds its run from the offsets.
Run r owns the slots from `offsets[r] // block + r`; drawn for 5, 8, 3 tokens and tiles of 4:

    offsets      0                  5                  13          16
    slot         0        1         2        3         4     5     6
    tokens       0..3     4..4      5..8     9..12     -     13..15 -

One slot too many is left empty at most per run; its programs return at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

SEARCH_BLOCK = 256
"""Runs that a program looks at in one step when it searches its own."""


def num_slots(num_tokens: int, num_runs: int, block: int) -> int:
    """Programs that are enough for every run, known without its length."""
    return num_tokens // block + num_runs


@triton.jit
def find_slot(offsets, num_runs, BLOCK: tl.constexpr, SEARCH_BLOCK: tl.constexpr):
    """Run, its first token, its tokens, and where this program's tile begins among them.

    A slot without work gets a tile that begins at or after the last of its run's tokens.
    """
    slot = tl.program_id(0)
    owners = 0
    for first in range(0, num_runs, SEARCH_BLOCK):
        index = first + tl.arange(0, SEARCH_BLOCK)
        exists = index < num_runs
        begin = tl.load(offsets + index, mask=exists, other=0)
        owners += tl.sum((exists & (begin // BLOCK + index <= slot)).to(tl.int32), 0)
    run = owners - 1
    begin = tl.load(offsets + run)
    length = tl.load(offsets + run + 1) - begin
    return run, begin.to(tl.int64), length, (slot - begin // BLOCK - run) * BLOCK
