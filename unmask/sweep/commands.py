"""`unmask train`, `few-shot`, `compare`, `suggest`: single runs, and questions to a sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.config_file import add_config_flags
from unmask.console import for_notes
from unmask.sweep.__main__ import (
    CHECKPOINT_HELP,
    DEFAULT_MODEL,
    DEFAULT_TASK,
    add_flags,
    add_recipe_flags,
    recipe_from,
    recipes_in_words,
    settings_from,
    whole_numbers,
)
from unmask.sweep.combinations import default_out, one_by_one
from unmask.sweep.data_flags import DEVICE_HELP, add_data_flags, data_settings

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.data.sentence import Corpus
    from unmask.sweep.plan import SweepSettings

TRAIN_EXAMPLES = """\
examples:
  unmask train --unmask 0110                        the embedded corpus and backbone
  unmask train -m smollm2-135m --unmask 0011 -t mine -d ~/my-files --preset quick --patience 3

Prints the folder of the labeler. The same command again goes on where it was."""

OF_A_SWEEP = (
    *("search", "trials", "groups", "sampler", "storage", "at_a_time", "search_seed"),
    *("search_over", "prune", "halving", "dry_run"),
)
"""Flags of a sweep that `suggest` would otherwise take and not obey."""

Add = Callable[[str, object, str], argparse.ArgumentParser]
"""Adds a command by name, function and help, and gives its parser."""


def add_to(add: Add) -> None:
    """Add the commands of this file to the `unmask` parser."""
    command = add("train", train, "train one labeler")
    command.epilog = TRAIN_EXAMPLES
    _add_train_flags(command)

    command = add("few-shot", few_shot, "show how many training sentences a labeler takes")
    _add_train_flags(command, of_one_run=False)
    command.add_argument(
        "--sizes",
        type=whole_numbers,
        default=(10, 20, 50, 100),
        metavar="N,N",
        help="training sentences (default: 10,20,50,100)",
    )

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


def _add_train_flags(command: argparse.ArgumentParser, of_one_run: bool = True) -> None:
    what = command.add_argument_group("what to train")
    what.add_argument(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="backbone: short name, hub id, folder (default: %(default)s)",
    )
    what.add_argument(
        "--unmask",
        metavar="CODE",
        help='which layers look right, such as 0110 or "layers:0,1,5-7"; none for an encoder',
    )
    what.add_argument(
        "-t",
        "--task",
        default=DEFAULT_TASK,
        metavar="NAME",
        help="task, or any name for your own files in --data-dir (default: %(default)s)",
    )
    if of_one_run:
        what.add_argument("--seed", type=int, default=120, metavar="N", help="default: 120")
        what.add_argument(
            "--test",
            choices=("score", "none"),
            default="score",
            help="score the test split at the end, or leave it alone (default: score)",
        )
    else:
        what.add_argument(
            "--seeds",
            type=whole_numbers,
            default=(120, 121, 122),
            metavar="N,N",
            help="default: 120,121,122",
        )
    add_data_flags(command)
    add_recipe_flags(command)
    add_config_flags(command)
    how = command.add_argument_group("how")
    default = "results/MODEL-TASK" if of_one_run else "results/MODEL-TASK/few-shot"
    how.add_argument("-o", "--out", type=Path, metavar="DIR", help=f"default: {default}")
    how.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    how.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="X", help=CHECKPOINT_HELP
    )
    how.add_argument("--debug", action="store_true", help="show where an error came from")


def train(arguments: argparse.Namespace) -> None:
    """Train one labeler, and print its folder."""
    from unmask.sweep.single import train_one

    test = "none" if arguments.test == "none" else "chosen"
    settings = replace(_settings(arguments, (arguments.seed,)), test=test, epoch_scores=True)
    corpus, console = _begin(settings)
    sys.stdout.write(f"{train_one(settings, arguments.unmask, corpus, console)}\n")


def few_shot(arguments: argparse.Namespace) -> None:
    """Train on more and more sentences, and show what it gains."""
    from unmask.sweep.few_shot import few_shot as measure

    settings = replace(_settings(arguments, arguments.seeds), test="none")
    if arguments.out is None:  # apart from a sweep on all sentences
        settings = replace(settings, out=settings.out / "few-shot")
    corpus, console = _begin(settings)
    curve = measure(settings, arguments.unmask, corpus, arguments.sizes, console)
    sys.stdout.write(f"{curve.to_text()}\n{curve.figure}\n")


def _begin(settings: SweepSettings) -> tuple[Corpus, Console]:
    """The corpus, and a console that has said what there is to know of it and of the recipe."""
    from unmask.sweep.execute import load_corpus

    corpus, console = load_corpus(settings), for_notes()
    for note in corpus.notes:
        console.print(f"note: {note}")
    for recipe in recipes_in_words([settings.recipe]):
        console.print(f"recipe: {recipe}")
    return corpus, console


def _settings(arguments: argparse.Namespace, seeds: tuple[int, ...]) -> SweepSettings:
    from unmask.sweep.plan import SweepSettings

    return SweepSettings(
        model=arguments.model,
        task=arguments.task,
        recipe=recipe_from(arguments),
        seeds=seeds,
        **data_settings(arguments),
        out=arguments.out or default_out([arguments.model], [arguments.task]),
        device=arguments.device,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


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

    from unmask.sweep.suggest import suggest
    from unmask.sweep.workers import parse_workers

    if given := [name for name in OF_A_SWEEP if getattr(arguments, name) not in (None, False)]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags}: not for suggest, which probes all of --configs; leave it out")
    sweeps = one_by_one(arguments)
    if len(sweeps) > 1:
        raise ValueError(
            "suggest takes one --model, --task, learning rate and rank; run it once for each"
        )
    settings, workers = settings_from(sweeps[0], for_notes()), parse_workers(arguments.workers)
    corpus, console = _begin(settings)
    found = suggest(settings, corpus, console, arguments.probe_steps, workers)
    text = json.dumps(found.to_dict(), indent=2) if arguments.json else found.to_text()
    sys.stdout.write(text + "\n")
