"""Claims: files whose lock says that a process is at work on something, and that it lives.

The system lets go of the lock when the process dies, however it dies, so a claim never outlives
its owner and needs neither process ids nor clocks; over NFS it holds between machines too. The
one thing that is easy to get wrong: a file that is removed on release may be locked by somebody
who opened it before, so whoever gets the lock checks that the name still leads to that file.
"""

from __future__ import annotations

import os
from pathlib import Path


class Claim:
    """An exclusive lock on a file of its own, from `take` to `release` or the death of the process.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "one.lock"
    >>> first, second = Claim(path), Claim(path)
    >>> first.take(), second.take()
    (True, False)
    >>> first.release()
    >>> second.take()
    True
    >>> second.release()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self, wait: bool = False) -> bool:
        """Take the claim; False when another has it and `wait` is not set."""
        import fcntl  # not on Windows, where only this fails

        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(file)
                return False
            if _is_still_called(self.path, file):
                self._file = file
                return True
            os.close(file)

    def release(self) -> None:
        """Remove the file and let go; nothing happens when it is not held."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Claim:
        self.take(wait=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the claim on `path`."""
    import fcntl

    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who only ask must not take one another for owners.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _is_still_called(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
