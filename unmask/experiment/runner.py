"""`python experiments/NAME/run.py`: run the commands of a folder, judge its claims, write both.

Everything resumes: the commands keep ledgers and do what is missing, so a second call costs
seconds. Experiments whose commands are the same share a folder of results, and train once.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unmask.errors import OneLineParser, one_line_errors
from unmask.experiment.claims import Verdict, judge
from unmask.experiment.config import DATA, OUT, Experiment, Variant

CLAIMS_FILE = "claims.json"
SEED = 7


def main(folder: Path | str, argv: Sequence[str] | None = None) -> None:
    """The entry point of every run.py; exits with 1 when a claim fails.

    Args:
        folder: the experiment's folder, or a file in it.
        argv: flags, by default those of the process.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    parser = OneLineParser(
        prog=f"python experiments/{folder.name}/run.py",
        description="Run one experiment and judge its claims. Without --small: with the paper's "
        "models where they can be had, else with SmolLM2-135M on open corpora.",
    )
    parser.add_argument("--small", action="store_true", help="minutes on a CPU")
    parser.add_argument("--variant", choices=("full", "open"), help="do not look, take this one")
    parser.add_argument(
        "-d", "--data-dir", type=Path, metavar="DIR", help="corpora, one folder each; see README"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    arguments = parser.parse_args(argv)
    with one_line_errors(parser.prog, arguments.debug, resumes=True):
        experiment = Experiment.read(folder)
        name = "small" if arguments.small else arguments.variant
        variant = choose_variant(experiment, name, arguments.data_dir)
        verdicts = run(experiment, variant, arguments.data_dir, arguments.out)
    raise SystemExit(0 if all(verdict.holds for verdict in verdicts) else 1)


def choose_variant(experiment: Experiment, name: str | None, data_dir: Path | None) -> Variant:
    """The variant asked for, else the largest that can be run; says why not the others.

    Raises:
        ValueError: for a variant that this experiment does not have.
    """
    if name is not None:
        if name not in experiment.variants:
            raise ValueError(
                f"{experiment.name} has no variant {name!r}, only {', '.join(experiment.variants)}"
            )
        return experiment.variants[name]
    for variant in experiment.variants.values():
        obstacle = _obstacle(variant, data_dir)
        if obstacle is None:
            sys.stderr.write(f"note: the {variant.name} variant\n")
            return variant
        sys.stderr.write(f"note: not the {variant.name} variant: {obstacle}\n")
    raise ValueError(f"{experiment.name}: nothing here can be run; give --data-dir, or --small")


def _obstacle(variant: Variant, data_dir: Path | None) -> str | None:
    """Why a variant cannot be run: a model that is not to be had, or no corpus at all."""
    from unmask.backbones import find_weights

    if all(_filled(command, data_dir, Path()) is None for command in variant.commands):
        return "none of its corpora is in --data-dir"
    try:
        for model in variant.models:
            find_weights(model)
    except FileNotFoundError as error:
        return str(error)
    return None


def run(
    experiment: Experiment, variant: Variant, data_dir: Path | None, out: Path
) -> list[Verdict]:
    """Run the commands, judge the claims, print and write the verdicts.

    What needs a corpus is left out, aloud, where `data_dir` is not given or lacks it.
    """
    left_out = []
    for command in variant.commands:
        filled = _filled(command, data_dir, out)
        if filled is None:
            left_out.append(command)
            sys.stderr.write(
                f"note: left out, for want of its corpus in --data-dir: {' '.join(command)}\n"
            )
            continue
        sys.stderr.write(f"$ {' '.join(filled)}\n")
        _call(filled, out)
    verdicts = []
    for claim in variant.claims:
        values = dict(claim)
        place = out / values.pop("in", "")
        if any(f"rdrr-{values.get('task')}.txt" in "".join(command) for command in left_out):
            continue
        verdicts.append(judge(values, place))
        sys.stdout.write(f"{verdicts[-1]}\n")
    record = {
        "experiment": experiment.name,
        "variant": variant.name,
        "commands": [list(c) for c in variant.commands if c not in left_out],
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    path = out / f"{experiment.name}-{variant.name}-{CLAIMS_FILE}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return verdicts


def _filled(command: Sequence[str], data_dir: Path | None, out: Path) -> list[str] | None:
    """The command with its places put in; None where a corpus is missing."""
    filled = []
    for part in command:
        if part.startswith(DATA):
            if data_dir is None or not (data_dir / part[len(DATA) + 1 :]).is_dir():
                return None
            part = str(data_dir) + part[len(DATA) :]
        filled.append(part.replace(OUT, str(out)))
    return filled


def _call(command: Sequence[str], out: Path) -> None:
    """One command, in this process; `rdrr` and `text` name the file they write first."""
    from unmask.cli import main as unmask_main
    from unmask.scale.__main__ import main as scale_main

    program, arguments = command[0], list(command[1:])
    if program == "scale":
        scale_main(arguments)
    elif program == "text":
        write_text(Path(arguments[0]), int(arguments[1]))
    elif program == "rdrr":
        path = Path(arguments[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            unmask_main(["rdrr", *arguments[1:]])
        sys.stdout.write(path.read_text(encoding="utf-8"))
    else:
        unmask_main([program, *arguments])


def write_text(folder: Path, num_lines: int) -> None:
    """Lines in the words of `lookright`, without labels, from a seed that no corpus uses."""
    from unmask.data import lookright

    path = folder / "lookright.txt"
    if path.exists():
        return
    writer = lookright.Writer(random.Random(SEED))
    lines = []
    for _ in range(num_lines):
        kind, label = writer.rng.random(), writer.pick(lookright.LABELS)
        if kind < 0.4:
            opening = writer.fill(lookright.OPENINGS)
            words = writer.right_decided(opening, writer.name(), label)[0]
        else:
            words = writer.left_decided()[0] if kind < 0.8 else writer.pair()[0]
        lines.append(" ".join(words))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
