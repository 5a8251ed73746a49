"""`python -m unmask.scale`: pre-train the pair, fine-tune from its checkpoints, draw the figure."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unmask.errors import OneLineParser, one_line_errors
from unmask.recipe import Recipe
from unmask.scale.settings import (
    DECODER_SHAPES,
    FINETUNING_PRESETS,
    KINDS,
    PRETRAINING_PRESETS,
    Pretraining,
)

PROGRAM = "python -m unmask.scale"

EXAMPLES = """\
examples:
  python -m unmask.scale pretrain --text ~/bookcorpus --tokenizer ~/roberta-base --out results/scale
  python -m unmask.scale finetune --out results/scale --task conll03_ner --data-dir ~/conll03
  python -m unmask.scale figure --out results/scale

On a laptop: --preset small for the first two, and --task lookright for the second. The same
command again does what is still missing; a killed one loses at most five
minutes of pre-training, or the fine-tunings that were under way."""


def build_parser() -> argparse.ArgumentParser:
    """All flags."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Does looking right help small models? Pre-train an encoder and a decoder of "
        "one shape on the same text, fine-tune all parameters from every checkpoint in three "
        "variants, and compare.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _pretrain_flags(commands.add_parser("pretrain", help="train the pair from nothing"))
    _finetune_flags(commands.add_parser("finetune", help="labelers from every checkpoint"))
    figure = commands.add_parser("figure", help="validation F1 against the checkpoint")
    _shared_flags(figure)
    return parser


def _shared_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the study's folder"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _preset_flag(parser: argparse.ArgumentParser, presets: Iterable[str]) -> None:
    parser.add_argument(
        "--preset",
        choices=tuple(presets),
        default="paper",
        help="paper: as published; small: minutes on a CPU (default: paper)",
    )


def _recipe_flags(parser: argparse.ArgumentParser, batch: str) -> None:
    parser.add_argument("--learning-rate", type=float, metavar="X")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--max-steps", type=int, metavar="N", help="optimizer steps")
    parser.add_argument("-b", "--batch-size", type=int, metavar="N", help=batch)
    parser.add_argument("--accumulation", type=int, metavar="N", help="micro-batches a step")
    parser.add_argument("--max-subtokens", type=int, metavar="N", help="tokens a chunk or sentence")
    parser.add_argument("--dtype", dest="compute_dtype", choices=("bfloat16", "float32"))
    parser.add_argument("--device", metavar="NAME", help="default: cuda, else mps, else cpu")


def _pretrain_flags(parser: argparse.ArgumentParser) -> None:
    _shared_flags(parser)
    parser.add_argument(
        "--text", type=Path, required=True, metavar="DIR", help="folder of .txt files, any depth"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="a tokenizer's folder (default: train one)"
    )
    _preset_flag(parser, PRETRAINING_PRESETS)
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="NAMES", help="encoder,decoder")
    parser.add_argument(
        "--decoder-shape", choices=DECODER_SHAPES, help="blocks of the decoder (default: roberta)"
    )
    for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    parser.add_argument("--checkpoints-per-epoch", type=int, metavar="N", help="default: 5")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 120")
    _recipe_flags(parser, "chunks a micro-batch")
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=300.0,
        metavar="X",
        help="the most that a kill can cost (default: 300)",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="passes made by torch.compile (default: on a GPU)",
    )


def _finetune_flags(parser: argparse.ArgumentParser) -> None:
    _shared_flags(parser)
    parser.add_argument("-t", "--task", required=True, metavar="NAME", help="as for the sweep")
    parser.add_argument("-d", "--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--train-from", metavar="SPLIT[:SHARE]")
    parser.add_argument("--validation-from", metavar="SPLIT:SHARE")
    parser.add_argument("--limit-train", type=int, metavar="N")
    parser.add_argument("--limit-validation", type=int, metavar="N")
    _preset_flag(parser, FINETUNING_PRESETS)
    parser.add_argument(
        "--checkpoints", type=_numbers, metavar="N,N", help="some of them (default: all)"
    )
    parser.add_argument("--seeds", type=_numbers, default=(120, 121, 122, 123, 124), metavar="N,N")
    _recipe_flags(parser, "sentences a micro-batch")
    parser.add_argument(
        "--fuse",
        default="auto",
        type=_fuse,
        metavar="N",
        help="runs that share a forward pass, of those that begin with one checkpoint; auto: as "
        "many as the memory holds (default: auto)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Do what the flags say."""
    from unmask.console import for_notes
    from unmask.scale.study import Study

    console = for_notes()
    study = Study(arguments.out, console)
    if arguments.command == "pretrain":
        settings = pretraining_from(arguments)
        console.print(f"settings: {settings.to_dict()}")
        tokens = study.prepare(arguments.text, arguments.tokenizer, settings)
        kinds = _kinds(arguments.kinds)
        device = _device(arguments.device)
        study.pretrain(
            kinds, tokens, device, arguments.checkpoint_seconds, compiled=arguments.compile
        )
    elif arguments.command == "finetune":
        _finetune(arguments, study, console)
    for path in study.write_pages() if arguments.command != "pretrain" else ():
        print(path)


def _finetune(arguments: argparse.Namespace, study: Any, console: Any) -> None:
    from unmask.data.tasks import load_task

    corpus = load_task(
        arguments.task,
        arguments.data_dir,
        train_from=arguments.train_from,
        validation_from=arguments.validation_from,
        limit_train=arguments.limit_train,
        limit_validation=arguments.limit_validation,
    )
    for note in corpus.notes:
        console.print(f"note: {note}")
    if not corpus.validation:
        raise ValueError(
            f"{corpus.name} has no validation split to score on; hold some out with "
            "--validation-from train:0.1"
        )
    recipe = with_recipe_flags(FINETUNING_PRESETS[arguments.preset], arguments)
    console.print(f"recipe: {recipe.to_dict()}")
    checkpoints = study.checkpoints(arguments.checkpoints)
    device = _device(arguments.device)
    study.finetune(checkpoints, corpus, recipe, arguments.seeds, device, arguments.fuse)


def pretraining_from(arguments: argparse.Namespace) -> Pretraining:
    """The preset with the flags that were given laid over it."""
    settings = PRETRAINING_PRESETS[arguments.preset]
    names = {field.name for field in fields(Pretraining)} - {"recipe"}
    given = {name: getattr(arguments, name, None) for name in names}
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(settings, recipe=with_recipe_flags(settings.recipe, arguments), **changed)


def with_recipe_flags(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """A recipe with the flags that were given laid over it."""
    given = {f.name: getattr(arguments, f.name, None) for f in fields(Recipe) if f.name != "preset"}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def _device(name: str | None) -> str:
    from unmask.devices import choose_device

    return choose_device(name)


def _kinds(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        raise ValueError(f"--kinds takes {' and '.join(KINDS)}, got {text!r}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers") from None


def _fuse(text: str) -> int | None:
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs, nor auto")
    return None if text == "auto" else int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point."""
    arguments = build_parser().parse_args(argv)
    with one_line_errors(PROGRAM, arguments.debug, resumes=True):
        run(arguments)


if __name__ == "__main__":
    main()
