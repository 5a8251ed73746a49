"""Flags that commands share: where sentences come from, and what computes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

TRAIN_FROM_HELP = "train on part of another split where there is no training file"
VALIDATION_FROM_HELP = "hold out for validation: train:0.1 a random tenth, train:200 the last 200"
REPAIR_HELP = "make entities of stray tags (an I-X that nothing opens); without it they count as O"

DEVICE_HELP = "cpu, cuda, cuda:1, mps (default: cuda, else mps, else cpu)"


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Where sentences come from."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "-d",
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with train, validation and test files in any format that is read",
    )
    data.add_argument(
        "--train-from",
        metavar="SPLIT[:SHARE]",
        help=TRAIN_FROM_HELP,
    )
    data.add_argument(
        "--validation-from",
        metavar="SPLIT:SHARE",
        help=VALIDATION_FROM_HELP,
    )
    data.add_argument("--column", metavar="NAME", help="column or key that holds the tags")
    data.add_argument("--repair", action="store_true", help=REPAIR_HELP)
    data.add_argument("--limit-train", type=int, metavar="N", help="first N training sentences")
    data.add_argument(
        "--limit-validation", type=int, metavar="N", help="first N validation sentences"
    )


def data_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags of `add_data_flags` say, by the names of `SweepSettings`."""
    names = ("data_dir", "train_from", "validation_from", "column", "repair")
    names += ("limit_train", "limit_validation")
    return {name: getattr(arguments, name) for name in names}
