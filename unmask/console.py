"""Where commands say what happens on the way: stderr, a line for each note."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def for_notes(file: IO[str] | None = None, quiet: bool = False) -> Console:
    """A console on stderr, or on `file`.

    Nothing is taken for markup, because names in [brackets] come from data, and nothing is wrapped,
    because a path must stay whole.
    """
    from rich.console import Console

    return Console(
        file=file,
        stderr=file is None,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
        quiet=quiet,
    )
