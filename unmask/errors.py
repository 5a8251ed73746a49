"""How a command ends when something is wrong: one line that says what to do, and an exit code.

2 for what the user can put right (a wrong name, file or setting), 1 for failures at run time (no
memory, no disk, a mask that disagrees), 130 for Ctrl-C. `--debug` gives the traceback instead.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

USAGE_ERROR = 2
RUN_TIME_ERROR = 1
INTERRUPTED = 130

USERS_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that does not print its whole usage before what is wrong.

    Flags are given whole: shortened ones would change their meaning with the next flag that begins
    alike.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse does it, with the nearest flag for one that is none."""
        found, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return found

    def refuse(self, unknown: Sequence[str]) -> None:
        """Exit with 2 and one line where anything was not understood."""
        if not unknown:
            return
        flag = unknown[0].partition("=")[0]
        near = get_close_matches(flag, self._option_string_actions, n=1, cutoff=0.8)
        advice = f" (did you mean {near[0]}?)" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


@contextmanager
def one_line_errors(program: str, debug: bool = False, resumes: bool = False) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code, unless `debug`.

    Args:
        program: what to begin the line with.
        debug: let exceptions through.
        resumes: after Ctrl-C, the same command goes on where it was.

    Raises:
        SystemExit: in place of every other exception.
    """
    try:
        yield
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(RUN_TIME_ERROR) from None
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"{program}: error: {in_one_line(error)}\n")
        raise SystemExit(exit_code(error)) from None
    except KeyboardInterrupt:
        advice = "; the same command goes on where it was" if resumes else ""
        sys.stderr.write(f"{program}: interrupted{advice}\n")
        raise SystemExit(INTERRUPTED) from None


def exit_code(error: Exception) -> int:
    """Whose fault: 2 for the user's input, 1 for what happened on the way."""
    if is_disk_full(error) or is_out_of_memory(error):
        return RUN_TIME_ERROR
    return USAGE_ERROR if isinstance(error, USERS_ERRORS) else RUN_TIME_ERROR


def in_one_line(error: Exception) -> str:
    """What to print for an exception."""
    if is_out_of_memory(error):
        return (
            "out of memory: make the batch smaller (--batch-size, with --accumulation to keep the "
            "step), fuse fewer runs (--fuse 1), or add --gradient-checkpointing"
        )
    if is_disk_full(error):
        place = getattr(error, "filename", None) or " ".join(str(error).split())
        return f"the disk is full or the file too large ({place}); make room, repeat the command"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    known = isinstance(error, ValueError | RuntimeError | OSError) and text
    if known:
        return text
    return f"{type(error).__name__}: {text or 'no details'} (--debug shows where)"


def is_disk_full(error: BaseException) -> bool:
    """Was there no room for a file? Python says so by number, what is written in Rust in words."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(f"(os error {number})" in str(error) for number in DISK_FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Did the machine or the GPU run out of memory?"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(one in str(error) for one in words)
