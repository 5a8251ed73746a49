"""`unmask compare` and `unmask suggest`: what to ask of a sweep, after it and before it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

Add = Callable[[str, object, str], argparse.ArgumentParser]
"""Adds a command by name, function and help, and gives its parser."""


def add_to(add: Add) -> None:
    """Add the commands of this file to the `unmask` parser."""
    command = add("compare", compare, "test whether one configuration or labeler beats another")
    command.add_argument("names", nargs="+", metavar="NAME", help="codes or baselines; or folders")
    command.add_argument("--in", dest="folder", type=Path, metavar="DIR", help="--out of a sweep")
    command.add_argument(
        "--split",
        default="test",
        choices=("validation", "test"),
        help="of the ledger (default: %(default)s)",
    )
    command.add_argument("--file", type=Path, metavar="FILE", help="compare labelers on this file")
    command.add_argument("--column", metavar="NAME", help="column or key that holds the tags")
    command.add_argument("--json", action="store_true", help="JSON in place of text")
    command.add_argument("--debug", action="store_true", help="show where an error came from")


def compare(arguments: argparse.Namespace) -> None:
    """Compare configurations of a ledger, or saved labelers on a file."""
    from unmask.sweep.comparison import compare_configurations, compare_labelers

    names, file = arguments.names, arguments.file
    if (arguments.folder is None) == (file is None):
        raise ValueError("give --in FOLDER for configurations of a sweep, or --file for labelers")
    if file is None:
        text = compare_configurations(arguments.folder, names, arguments.split, arguments.json)
    else:
        text = compare_labelers(names, file, arguments.column, arguments.json)
    sys.stdout.write(text + "\n")
