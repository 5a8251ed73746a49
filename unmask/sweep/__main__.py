"""`python -m unmask.sweep`: flags to settings, settings to `execute`, results to the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.config import gray_codes
from unmask.config_file import add_config_flags, parse, to_yaml
from unmask.console import for_notes
from unmask.errors import OneLineParser, one_line_errors
from unmask.recipe import COMPUTE_DTYPES, PRESETS, Recipe, load_recipe
from unmask.sweep.combinations import names_in, one_by_one
from unmask.sweep.data_flags import DEVICE_HELP, add_data_flags, data_settings
from unmask.sweep.search_flags import add_search_flags, search_from

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.data.sentence import Corpus
    from unmask.sweep.plan import SweepSettings

PROGRAM = "python -m unmask.sweep"
DEFAULT_MODEL = "tiny"
DEFAULT_TASK = "lookright"
BASELINES_WITH_HUB = ("roberta-base", "roberta-large")
BASELINE_WITHOUT_HUB = "minilm-l6"

CHECKPOINT_HELP = (
    "time between checkpoints, the most that a kill can cost; longer where writing them would take "
    "more than a twentieth of the time; 0: after every step (default: 60)"
)

EXAMPLES = """\
examples:
  python -m unmask.sweep                                      the embedded corpus and backbone
  python -m unmask.sweep --model mistral-7b --task conll03_ner --learning-rates 1e-4,2e-4
  python -m unmask.sweep --model smollm2-135m --task wnut17 --data-dir ~/wnut17 \\
      --preset quick --configs 0000,1111,0011 --seeds 120 --limit-train 256

The same command again does what is still missing. exit codes: 0 done, 1 failed on the way,
2 wrong input."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags of a sweep; `unmask sweep` takes the same."""
    what = parser.add_argument_group("what to run")
    what.add_argument(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="decoder, or several with commas: short name, hub id, folder (default: %(default)s)",
    )
    what.add_argument(
        "-t",
        "--task",
        default=DEFAULT_TASK,
        metavar="NAME",
        help="task, or several with commas, or any name for your own files in --data-dir "
        "(default: %(default)s)",
    )
    what.add_argument(
        "--configs",
        type=_codes,
        metavar="CODES",
        help='unmasking codes, such as 0000,0110 or "layers:0,1,5-7"; several sets are separated '
        "by ; (default: all 16 of four groups)",
    )
    what.add_argument(
        "--seeds",
        type=whole_numbers,
        default=(120, 121, 122, 123, 124),
        metavar="N,N",
        help="default: 120,121,122,123,124",
    )
    what.add_argument(
        "--learning-rates",
        type=_learning_rates,
        metavar="X,X",
        help="do it all at each of these rates, which share forward passes",
    )
    what.add_argument(
        "--lora-ranks",
        type=whole_numbers,
        metavar="N,N",
        help="and with adapters of each of these ranks; --lora-alpha is that of all",
    )
    what.add_argument(
        "--baselines",
        default="auto",
        metavar="NAMES",
        help="encoders by the same recipe, or none; auto takes roberta-base,roberta-large where "
        "they can be had, else minilm-l6, and none for --model tiny (default: auto)",
    )
    what.add_argument(
        "--test",
        choices=("chosen", "all", "none"),
        default="chosen",
        help="whose test split is scored: the configuration chosen on validation and the "
        "baselines, all configurations (the published analysis), or none (default: chosen)",
    )
    add_data_flags(parser)
    add_search_flags(parser)
    add_recipe_flags(parser)
    add_config_flags(parser)
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="where ledger, adapters and report go (default: results/MODEL-TASK)",
    )
    how.add_argument(
        "--fuse",
        default="auto",
        metavar="N",
        help="runs that share a forward pass; auto: as many as the memory holds (default: auto)",
    )
    how.add_argument(
        "--workers",
        default="1",
        metavar="WHO",
        help="who shares the runs: N processes here; ray for a Ray cluster of this machine, "
        "ray://auto or ray://HOST:PORT for one that runs; slurm:N,KEY=VALUE,... for N jobs, such "
        "as slurm:8,partition=gpu,gpus_per_node=1 (default: 1)",
    )
    how.add_argument(
        "--strategy",
        metavar="KIND:N",
        help="ddp:N or fsdp:N: N processes, each with a device, train every run together; with "
        "fsdp each keeps only a part of the backbone. ddp or fsdp under torchrun (default: one "
        "device a run)",
    )
    how.add_argument(
        "--halving",
        action="store_true",
        help="weak configurations leave after a quarter and after half of the steps",
    )
    how.add_argument(
        "--epoch-scores",
        action="store_true",
        help="score validation after every epoch, for learning curves; --patience does it anyway",
    )
    how.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    how.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        metavar="X",
        help=CHECKPOINT_HELP,
    )
    how.add_argument(
        "--track",
        type=lambda text: tuple(names_in(text)),
        default=(),
        metavar="NAMES",
        help="tensorboard, wandb or both with commas, for learning curves while runs train; "
        "runs/*/curves.csv has them in any case",
    )
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="print the runs, their cost and the memory they need, and stop",
    )
    how.add_argument("--debug", action="store_true", help="show where an error came from")


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of the recipe that is often changed."""
    recipe = parser.add_argument_group("recipe (each flag overrides the preset)")
    recipe.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="paper: as published; as_released: as the published code does it; quick: few steps "
        "at a larger rate; tiny: for the embedded backbone (default: tiny for it, else paper)",
    )
    recipe.add_argument("--learning-rate", type=float, metavar="X")
    recipe.add_argument("--epochs", type=int, metavar="N")
    recipe.add_argument("--max-steps", type=int, metavar="N", help="optimizer steps")
    recipe.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop a run after N epochs without a better validation F1, and keep its best weights",
    )
    recipe.add_argument("-b", "--batch-size", type=int, metavar="N", help="sentences a micro-batch")
    recipe.add_argument("--accumulation", type=int, metavar="N", help="micro-batches a step")
    recipe.add_argument("--lora-rank", type=int, metavar="N")
    recipe.add_argument("--lora-alpha", type=int, metavar="N")
    recipe.add_argument("--max-subtokens", type=int, metavar="N", help="longer sentences are cut")
    recipe.add_argument("--optimizer", choices=("paged_adamw_8bit", "adamw"))
    recipe.add_argument("--quantization", choices=("nf4", "none"))
    recipe.add_argument("--dtype", dest="compute_dtype", choices=COMPUTE_DTYPES)
    recipe.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations again in backward: less memory, more time",
    )


def recipe_from(arguments: argparse.Namespace) -> Recipe:
    """The preset, over it the configuration file, the flags, and the dotted fields."""
    from_file = dict(getattr(arguments, "recipe_file", {}))
    named = from_file.pop("preset", None)
    preset = arguments.preset or named or ("tiny" if arguments.model == "tiny" else "paper")
    names = {field.name for field in fields(Recipe)} - {"preset"}
    flags = {name: getattr(arguments, name, None) for name in names}
    given = {
        **from_file,
        **{name: value for name, value in flags.items() if value is not None},
        **getattr(arguments, "recipe_dotted", {}),
    }
    if given.get("quantization") == "none":
        given["quantization"] = None
    return Recipe.from_dict({**load_recipe(preset).to_dict(), **given})


def run(arguments: argparse.Namespace) -> None:
    """Do what the flags say."""
    from rich.console import Console

    from unmask.results.report import render_table
    from unmask.sweep.execute import open_ledger
    from unmask.sweep.outputs import sections_for_terminal, write_outputs
    from unmask.sweep.strategy import follows
    from unmask.sweep.workers import do_sweeps, parse_workers

    console = for_notes(quiet=follows())
    workers = parse_workers(arguments.workers)
    sweeps = [settings_from(one, console) for one in one_by_one(arguments)]
    # All corpora first: a missing file is to be known before hours of training.
    corpora = _corpora(sweeps)
    for note in dict.fromkeys(note for corpus in corpora for note in corpus.notes):
        console.print(f"note: {note}")
    for recipe in recipes_in_words(one.recipe for one in sweeps):
        console.print(f"recipe: {recipe}")
    if arguments.dry_run:
        from unmask.sweep.dry_run import describe

        for settings, corpus in zip(sweeps, corpora, strict=True):
            for line in describe(settings, corpus):
                print(line)
        return
    do_sweeps(list(zip(sweeps, corpora, strict=True)), workers, console)
    if not follows():
        ledger = open_ledger(sweeps[0])
        Console().print(render_table(sections_for_terminal(ledger, sweeps[0].out)))
        for path in write_outputs(ledger, sweeps[0].out):
            print(path)


def recipes_in_words(recipes: Iterable[Recipe]) -> Iterator[str]:
    """The first in full, and in what others differ from it."""
    first, *others = (recipe.to_dict() for recipe in dict.fromkeys(recipes))
    yield ", ".join(f"{name}={value}" for name, value in first.items())
    for other in others:
        names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        yield "the same with " + ", ".join(f"{name}={other.get(name)}" for name in names)


def _corpora(sweeps: Sequence[SweepSettings]) -> list[Corpus]:
    """What each works on; read once where several work on the same."""
    from unmask.sweep.execute import load_corpus

    read: dict[str, Corpus] = {}
    for one in sweeps:
        key = f"{one.data()} {one.test}"
        read[key] = read.get(key) or load_corpus(one)
    return [read[f"{one.data()} {one.test}"] for one in sweeps]


def settings_from(arguments: argparse.Namespace, console: Console) -> SweepSettings:
    """The flags as settings, with what they leave open filled in.

    Raises:
        ValueError, FileNotFoundError: for a value that cannot be, or weights that cannot be had.
    """
    from unmask.backbones import find_weights
    from unmask.sweep.plan import SweepSettings
    from unmask.sweep.strategy import check_strategy, parse_strategy
    from unmask.sweep.workers import parse_workers
    from unmask.training.trackers import check_trackers

    strategy = parse_strategy(arguments.strategy) if arguments.strategy else None
    check_strategy(strategy)
    workers = parse_workers(arguments.workers)
    settings = SweepSettings(
        model=arguments.model,
        task=arguments.task,
        recipe=recipe_from(arguments),
        configs=gray_codes(4) if arguments.configs is None else arguments.configs,
        search=search_from(arguments),
        seeds=arguments.seeds,
        **data_settings(arguments),
        out=arguments.out,
        fuse=_fuse(arguments.fuse),
        halving=arguments.halving,
        workers=1 if workers.count is None else workers.count,
        strategy=strategy,
        test=arguments.test,
        device=arguments.device,
        checkpoint_seconds=arguments.checkpoint_seconds,
        epoch_scores=arguments.epoch_scores,
        track=arguments.track,
    )
    check_trackers(settings.track)
    find_weights(settings.model)  # first of all: without them nothing else matters
    return replace(settings, baselines=_baselines(arguments, console))


def _baselines(arguments: argparse.Namespace, console: Console) -> tuple[str, ...]:
    if arguments.baselines == "none":
        return ()
    if arguments.baselines != "auto":
        return tuple(name.strip() for name in arguments.baselines.split(",") if name.strip())
    if arguments.model == "tiny":
        return ()
    from unmask.backbones import find_weights

    for names in (BASELINES_WITH_HUB, (BASELINE_WITHOUT_HUB,)):
        try:
            for name in names:
                find_weights(name)
        except FileNotFoundError as error:
            console.print(f"note: no baseline {','.join(names)}: {error}")
        else:
            return names
    return ()


def _codes(text: str) -> tuple[str, ...]:
    separator = ";" if ";" in text or text.startswith("layers:") else ","
    return tuple(code.strip() for code in text.split(separator) if code.strip())


def whole_numbers(text: str) -> tuple[int, ...]:
    """A list of numbers as flags have it: 120,121."""
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers") from None


def _learning_rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(rate) for rate in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def _fuse(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise ValueError(f"--fuse takes a number of runs or auto, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Fine-tune one decoder in many unmasking configurations, choose the best on "
        "validation data, and report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    with one_line_errors(PROGRAM, "--debug" in (argv or sys.argv), resumes=True):
        arguments = parse(parser, sys.argv[1:] if argv is None else argv)
        if arguments.print_config:
            print(to_yaml(parser, arguments, recipe_from(arguments).to_dict()), end="")
        else:
            run(arguments)


if __name__ == "__main__":
    main()
