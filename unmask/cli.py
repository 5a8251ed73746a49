"""The `unmask` command: parses, calls one function, prints.

Results go to stdout, what happens on the way to stderr. Nothing heavy is imported before the
flags are known to be right, so `--help` is instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import unmask
from unmask import labeler_commands
from unmask.config_file import parse, to_yaml
from unmask.data.sentence import SPLITS
from unmask.errors import RUN_TIME_ERROR, OneLineParser, one_line_errors
from unmask.instruct import cli as instruct
from unmask.sweep import __main__ as sweep
from unmask.sweep import commands as sweep_commands
from unmask.sweep.data_flags import (
    DEVICE_HELP,
    REPAIR_HELP,
    TRAIN_FROM_HELP,
    VALIDATION_FROM_HELP,
)

if TYPE_CHECKING:
    from unmask.data.sentence import Corpus
    from unmask.model import UnmaskedForTokenClassification


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of the `unmask` script."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser, commands = parsers()
    name = argv[0] if argv else ""
    resumes = name in ("sweep", "train")
    with one_line_errors(f"unmask {name}", "--debug" in argv, resumes):
        command = commands.get(name)
        if command is None or not command.get_default("takes_config"):
            arguments, unknown = parser.parse_known_args(argv)
            commands[name].refuse(unknown)
            arguments.do(arguments)
            return
        arguments = parse(command, argv[1:])
        if arguments.print_config:
            recipe = sweep.recipe_from(arguments).to_dict()
            print(to_yaml(command, arguments, recipe), end="")
        else:
            arguments.do(arguments)


def doctor(arguments: argparse.Namespace) -> None:
    """Print the environment, and prove the mask of a model layer by layer."""
    import torch

    rows = {"torch": torch.__version__, "GPU": _gpu(), **_versions()}
    for name, value in rows.items():
        print(f"{name:<14} {value}")
    model = _model_to_prove(arguments)
    proof = model.verify_mask()
    print(f"{'model':<14} {model.loaded.weights.name} ({model.loaded.weights.path})")
    print(f"{'dtype':<14} {model.loaded.dtype}, quantization {model.loaded.quantization}")
    print(f"{'kernels':<14} {_kernels(model.device.type)}")
    tokenizer, before = type(model.encoder.tokenizer).__name__, model.encoder.num_special_tokens
    print(f"{'tokenizer':<14} {tokenizer}: words alone as in running text, {before} tokens around")
    print(f"{'configuration':<14} {model.configs[0].code}\n")
    print(proof.to_text())
    if not proof.agrees:
        raise SystemExit(RUN_TIME_ERROR)


def _model_to_prove(arguments: argparse.Namespace) -> UnmaskedForTokenClassification:
    """The saved labeler, or a fresh one; the default code has layers of both kinds."""
    from unmask.backbones import load_backbone
    from unmask.lora import LoraSettings
    from unmask.model import UnmaskedForTokenClassification, configuration

    name, device = arguments.model, arguments.device
    if _is_saved(name):
        return UnmaskedForTokenClassification.from_pretrained(
            name,
            unmask=arguments.unmask,
            quantization=arguments.quantization,
            dtype=arguments.dtype,
            device=device,
        )
    loaded = load_backbone(name, arguments.dtype or "float32", arguments.quantization, device)
    code = arguments.unmask or (None if loaded.is_encoder else "0110")
    config = configuration(loaded, code)
    return UnmaskedForTokenClassification(loaded, ["X"], [config], LoraSettings(rank=1)).eval()


def check_data(arguments: argparse.Namespace) -> None:
    """Report counts and what is wrong with a corpus."""
    from unmask.data.checks import check_corpus

    corpus = _load(arguments)  # the report has its notes
    count = _subtoken_counter(arguments.model) if arguments.model else None
    report = check_corpus(corpus, arguments.max_subtokens if count else None, count)
    print(report.to_text())
    if report.num_broken:
        raise SystemExit(RUN_TIME_ERROR)


def rdrr(arguments: argparse.Namespace) -> None:
    """Count on which side the words lie that labelled words depend on."""
    from unmask.analysis.rdrr import load_parser
    from unmask.analysis.rdrr import rdrr as measure

    corpus = _load_aloud(arguments)
    print(measure(corpus.split(arguments.split), load_parser(arguments.parser)))


def report(arguments: argparse.Namespace) -> None:
    """Make the pages of a sweep again from its ledger."""
    from rich.console import Console

    from unmask.results.ledger import Ledger
    from unmask.results.report import render_table
    from unmask.sweep.outputs import sections_for_terminal, write_outputs

    folder: Path = arguments.folder
    if not (folder / "ledger.jsonl").exists():
        raise FileNotFoundError(f"{folder} holds no ledger.jsonl; give the --out folder of a sweep")
    ledger = Ledger(folder / "ledger.jsonl")
    paths = write_outputs(ledger, folder, arguments.only, arguments.sentences)
    Console().print(render_table(sections_for_terminal(ledger, folder, arguments.only)))
    for path in paths:
        print(path)


def parsers() -> tuple[OneLineParser, Mapping[str, OneLineParser]]:
    """The parser of `unmask`, and those of its commands by name."""
    parser = OneLineParser(
        prog="unmask",
        description="Let chosen layers of a decoder LLM look right, and find out which.",
        epilog="exit codes: 0 done, 1 failed on the way (or something is broken), 2 wrong input",
    )
    parser.add_argument("--version", action="version", version=f"unmask {unmask.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, do: object, text: str) -> OneLineParser:
        raw = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=text, description=text, formatter_class=raw)
        command.set_defaults(do=do)
        return command

    command = add("sweep", sweep.run, "train all configurations, choose one, report")
    command.epilog = sweep.EXAMPLES
    sweep.add_flags(command)

    command = add("instruct", instruct.run, "build, train and score instruction-tuned systems")
    command.epilog = instruct.EXAMPLES
    instruct.add_flags(command)

    command = add("doctor", doctor, "print the environment and prove a model's mask")
    command.add_argument(
        "-m", "--model", default="tiny", help="backbone or saved labeler (default: tiny)"
    )
    command.add_argument(
        "--unmask",
        metavar="CODE",
        help='for a backbone, such as 0110 or "layers:0,1,5-7" (default: 0110)',
    )
    command.add_argument("--quantization", choices=("nf4",))
    command.add_argument("--dtype", choices=("bfloat16", "float16", "float32", "float64"))
    _add_common(command)

    command = add("check-data", check_data, "say what a corpus holds and what is wrong with it")
    _add_data(command)
    command.add_argument("-m", "--model", help="count sub-tokens with this backbone's tokenizer")
    command.add_argument(
        "--max-subtokens",
        type=int,
        default=128,
        metavar="N",
        help="that fit (default: %(default)s)",
    )
    command.add_argument("--debug", action="store_true", help="show where an error came from")

    command = add("rdrr", rdrr, "measure the right-side dependency relation ratio of a corpus")
    _add_data(command)
    command.add_argument("--split", default="train", choices=SPLITS, help="default: %(default)s")
    command.add_argument("--parser", metavar="NAME", help="spaCy model (default: the best found)")
    command.add_argument("--debug", action="store_true", help="show where an error came from")

    labeler_commands.add_to(add, _add_data, _load_aloud)
    sweep_commands.add_to(add)

    command = add("report", report, "make the pages of a sweep again from its ledger")
    command.add_argument("folder", type=Path, help="the --out folder of a sweep")
    command.add_argument("--only", metavar="TEXT", help="of titles with TEXT in them, in a folder")
    command.add_argument(
        "--no-sentences",
        dest="sentences",
        action="store_false",
        help="leave out the worst sentences, which are text of the corpus",
    )
    command.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser, commands.choices


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument("--debug", action="store_true", help="show where an error came from")


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("-t", "--task", help="task, or a name for your own files")
    command.add_argument("-d", "--data-dir", type=Path, metavar="DIR", help="folder of your files")
    command.add_argument("--train-from", metavar="SPLIT[:SHARE]", help=TRAIN_FROM_HELP)
    command.add_argument("--validation-from", metavar="SPLIT:SHARE", help=VALIDATION_FROM_HELP)
    command.add_argument("--column", metavar="NAME", help="column or key that holds the tags")
    command.add_argument("--repair", action="store_true", help=REPAIR_HELP)


def _load(arguments: argparse.Namespace) -> Corpus:
    from unmask.data.tasks import load_task

    if arguments.task is None and arguments.data_dir is None:
        raise ValueError("no data: give --task NAME, or --data-dir DIR for files of your own")
    return load_task(
        arguments.task or "data",
        arguments.data_dir,
        train_from=arguments.train_from,
        validation_from=arguments.validation_from,
        column=arguments.column,
        repair=arguments.repair,
    )


def _load_aloud(arguments: argparse.Namespace) -> Corpus:
    """Load, and say what there is to know of the corpus."""
    corpus = _load(arguments)
    for note in corpus.notes:
        sys.stderr.write(f"note: {note}\n")
    return corpus


def _subtoken_counter(model: str) -> Callable[[Sequence[str]], int]:
    from unmask.backbones import load_tokenizer
    from unmask.data.alignment import WordEncoder

    encoder = WordEncoder(load_tokenizer(model))

    def count(words: Sequence[str]) -> int:
        return encoder.num_special_tokens + sum(len(encoder.encode_word(word)) for word in words)

    return count


def _is_saved(model: str) -> bool:
    from unmask.saving import is_saved

    return is_saved(Path(model))


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "of Apple, by mps" if torch.backends.mps.is_available() else "none, using the CPU"


def _kernels(device: str) -> str:
    """What computes attention and adapters there."""
    if device != "cuda":
        return f"PyTorch, by definition (no Triton on {device})"
    has_triton = find_spec("triton") is not None
    return "Triton" if has_triton else "PyTorch, by definition (Triton is not installed)"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("unmask", "transformers", "peft", "bitsandbytes", "lightning")
    return {package: version(package) for package in packages}


if __name__ == "__main__":
    main()
