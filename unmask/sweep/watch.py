"""Progress in one place: what workers write into their logs is said here, line by line.

Workers may be processes, Ray tasks or SLURM jobs; their logs lie in one folder that all of them
see. The one thing that is easy to get wrong: a log is read while it is written, so a line
without its end is left for the next look.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from rich.console import Console

from unmask.console import for_notes
from unmask.errors import in_one_line

SECONDS_BETWEEN_LOOKS = 0.5


class LogWatch:
    """Repeats the new lines of the logs in a folder; what two workers say alike is said once.

    Args:
        folder: where the logs are; it need not exist yet.
        console: where their lines go.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        # What an earlier call of the same sweep wrote is no news.
        self._read = {path: path.stat().st_size for path in self._logs()}
        self._said: set[str] = set()

    def look(self) -> None:
        """Say what is new."""
        for path in self._logs():
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                if line and line not in self._said:
                    self._said.add(line)
                    self.console.print(f"{path.stem}: {line}")

    def until(self, is_over: Callable[[], bool]) -> None:
        """Look again and again until `is_over`, and once more."""
        while not is_over():
            self.look()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self.look()

    def _logs(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))


@contextmanager
def logged(path: Path) -> Iterator[Console]:
    """A console that appends to `path`, where everything goes that would be said on stderr.

    An exception is written there in one line before it goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1, encoding="utf-8") as file, redirect_stderr(file):
        console = for_notes(file)
        try:
            yield console
        except Exception as error:
            console.print(f"error: {in_one_line(error)} (on {socket.gethostname()})")
            raise
