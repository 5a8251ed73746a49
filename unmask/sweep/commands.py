"""`unmask compare` and `unmask suggest`: what to ask of a sweep, after it and before it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from unmask.sweep.__main__ import add_flags, one_by_one, settings_from

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

    command = add("suggest", suggest, "rank configurations before any is trained in full")
    add_flags(command)
    command.add_argument(
        "--probe-steps", type=int, default=20, metavar="N", help="of each probe (default: 20)"
    )
    command.add_argument("--json", action="store_true", help="JSON in place of text")


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


def suggest(arguments: argparse.Namespace) -> None:
    """Rank the configurations of a sweep, and check the ranking where its results are there."""
    import json

    from rich.console import Console

    from unmask.sweep.execute import load_corpus
    from unmask.sweep.suggest import suggest

    sweeps = one_by_one(arguments)
    if len(sweeps) > 1:
        raise ValueError("suggest takes one --model and one --task; run it once for each")
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    settings = settings_from(sweeps[0], console)
    found = suggest(settings, load_corpus(settings), console, arguments.probe_steps)
    text = json.dumps(found.to_dict(), indent=2) if arguments.json else found.to_text()
    sys.stdout.write(text + "\n")
