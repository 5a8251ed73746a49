"""A smaller try in place of a crash, where the estimate of what fits was wrong."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from unmask.errors import is_out_of_memory
from unmask.ranks import Ranks


def fits_in_memory(work: Callable[[], None], width: int) -> bool:
    """Do `work` on `width` runs at a time; False when memory ran out and fewer are worth a try."""
    try:
        work()
    except Exception as error:
        # Processes that train together are out of step by now.
        if width == 1 or Ranks.here().size > 1 or not is_out_of_memory(error):
            raise
    else:
        return True
    # Only here, since the tensors of the stack live as long as the exception.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
