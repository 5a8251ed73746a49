"""Loading a GGUF file through transformers in a third of the time.

transformers reads the file four times for one backbone, each time with every entry of its
vocabulary as an array of its own, and makes the table of tensor names anew for every module: 22
seconds for SmolLM2-135M, where 8 do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import gguf
from transformers import modeling_gguf_pytorch_utils

READS = ("GGUFReader", "get_tensor_name_map")


@contextmanager
def read_once() -> Iterator[None]:
    """What is read of GGUF files inside is read once; their bar is left to terminals."""
    package: Any = gguf
    transformers_part: Any = modeling_gguf_pytorch_utils
    originals, bar = {name: getattr(package, name) for name in READS}, transformers_part.tqdm
    try:
        for name, original in originals.items():
            setattr(package, name, cache(original))
        # A bar of tqdm's own, which the switch of transformers does not reach.
        transformers_part.tqdm = partial(bar, disable=None)
        yield
    finally:
        for name, original in originals.items():
            setattr(package, name, original)
        transformers_part.tqdm = bar
