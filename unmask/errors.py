"""How a command ends when something is wrong: one line that says what to do, and an exit code.

2 for what the user can put right (a wrong name, file or setting), 1 for failures at run time (no
memory, no disk, a mask that disagrees), 130 for Ctrl-C. `--debug` gives the traceback instead.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USAGE_ERROR = 2
RUN_TIME_ERROR = 1
INTERRUPTED = 130


@contextmanager
def one_line_errors(program: str, debug: bool = False) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code, unless `debug`.

    Raises:
        SystemExit: in place of every other exception.
    """
    try:
        yield
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"{program}: error: {in_one_line(error)}\n")
        raise SystemExit(exit_code(error)) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted; the same command goes on where it was\n")
        raise SystemExit(INTERRUPTED) from None


def exit_code(error: Exception) -> int:
    """Whose fault: 2 for the user's input, 1 for what happened on the way."""
    if isinstance(error, ValueError | FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return USAGE_ERROR
    return RUN_TIME_ERROR


def in_one_line(error: Exception) -> str:
    """What to print for an exception."""
    if is_out_of_memory(error):
        return (
            "out of memory: make the batch smaller (--batch-size, with --accumulation to keep the "
            "step), fuse fewer runs (--fuse 1), or add --gradient-checkpointing"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({error.filename or error}); free some and repeat the command"
    text = " ".join(str(error).split())
    known = isinstance(error, ValueError | RuntimeError | OSError) and text
    return text if known else f"{type(error).__name__}: {text} (--debug shows where)"


def is_out_of_memory(error: BaseException) -> bool:
    """Did the machine or the GPU run out of memory?"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
