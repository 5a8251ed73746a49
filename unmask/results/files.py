"""Write a file so that no reader and no kill ever sees half of it."""

from __future__ import annotations

import os
from pathlib import Path


def write_in_one_move(path: Path, content: str | bytes) -> None:
    """Write beside the place and move there; folders are made as needed.

    The name beside holds the process, so that workers of one sweep may write the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.replace(path)
