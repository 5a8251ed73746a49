"""Subcommands of `unmask` for a labeler that is trained: predict, evaluate, serve, pass on.

Each parses, calls one function and prints. Nothing heavy is imported before the flags are known
to be right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.console import for_notes
from unmask.data.sentence import SPLITS
from unmask.errors import RUN_TIME_ERROR
from unmask.sweep.data_flags import DEVICE_HELP

if TYPE_CHECKING:
    from unmask.data.sentence import Corpus
    from unmask.model import UnmaskedForTokenClassification

READ_AHEAD = 64
"""Lines that `unmask predict` takes at once by default."""

FORMATS = ("unmask", "hf", "html", "spacy", "conll")
"""Those of `unmask.formats` that make sense line by line."""


def predict(arguments: argparse.Namespace) -> None:
    """Label the lines of a file, or of stdin, one JSON object a line (or CoNLL columns)."""
    from unmask.predict import Spans

    _check_input(arguments.file)
    labeler = _load_labeler(arguments)
    labeler.merge()
    kept: list[str] = []

    def lines() -> Iterator[str]:
        for line in _lines(arguments.file):
            kept.append(line)
            yield line

    found = labeler.predict_iter(
        lines(),
        arguments.batch_size,
        read_ahead=arguments.read_ahead,
        threshold=arguments.threshold,
        on_truncation=arguments.on_truncation,
        format=arguments.format,
    )
    for result in found:
        text = kept.pop(0)
        if isinstance(result, str):
            print(result, end="", flush=True)
        else:
            record = {"text": text, "spans": result}
            if isinstance(result, Spans):
                record["truncated"] = result.truncated
            print(json.dumps(record, ensure_ascii=False), flush=True)


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a labeler on a split, with its mistakes."""
    from unmask.evaluation import evaluate as measure

    corpus = arguments.load(arguments)
    sentences, train = corpus.split(arguments.split), corpus.train or None
    labeler = _load_labeler(arguments)
    if foreign := sorted(set(corpus.labels) - set(labeler.labels)):
        sys.stderr.write(
            f"note: {corpus.name} has {', '.join(foreign)}, which this labeler never gives; it "
            f"gives {', '.join(labeler.labels)}\n"
        )
    found = measure(labeler, sentences, train)
    if arguments.against:
        other = argparse.Namespace(**{**vars(arguments), "model": arguments.against})
        print(found.against(measure(_load_labeler(other), sentences, train)).to_text())
        return
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found.to_text())
    if arguments.html:
        title = f"{arguments.model} on {corpus.name}, {arguments.split}"
        arguments.html.write_text(found.to_html(title), encoding="utf-8")
        sys.stderr.write(f"{arguments.html}\n")


def calibrate(arguments: argparse.Namespace) -> None:
    """Fit the temperature of a labeler's scores on a split and store it in its folder."""
    from unmask.saving import is_saved, store_temperature

    corpus = arguments.load(arguments)
    if not is_saved(Path(arguments.model)):
        raise ValueError(f"{arguments.model} is no folder of a labeler, to keep the temperature in")
    labeler = _load_labeler(arguments)
    found = labeler.calibrate(corpus.split(arguments.split))
    store_temperature(Path(arguments.model), found.temperature)
    print(
        f"temperature {found.temperature:.4f}, fitted on {found.num_words} words\n"
        f"expected calibration error {found.ece[0]:.4f} -> {found.ece[1]:.4f}\n"
        f"negative log-likelihood    {found.nll[0]:.4f} -> {found.nll[1]:.4f}"
    )


def explain(arguments: argparse.Namespace) -> None:
    """Close each open group of layers in turn and show which labels change."""
    from unmask.data.words import split_words
    from unmask.explain import explain as compare

    _check_input(arguments.file)
    texts = [text for text in _lines(arguments.file) if text.strip()]
    sentences = [[text[start:end] for start, end in split_words(text)] for text in texts]
    other = None
    if arguments.other:
        other = _load_labeler(argparse.Namespace(**{**vars(arguments), "model": arguments.other}))
    found = compare(_load_labeler(arguments), sentences, other)
    arguments.out.write_text(found.to_html(), encoding="utf-8")
    print(f"{found.to_text()}\n{arguments.out}")


def serve(arguments: argparse.Namespace) -> None:
    """Serve a labeler over HTTP until interrupted."""
    try:
        from unmask.plugins.serve import Limits, create_app, take_port
        from unmask.plugins.serve import serve as listen
    except ModuleNotFoundError as error:
        raise ValueError(f'{error.name} is not installed: pip install "unmask[serve]"') from None
    limits = Limits(arguments.max_body_bytes, arguments.max_waiting, arguments.max_batch)
    with take_port(arguments.host, arguments.port) as taken:
        app = create_app(_load_labeler(arguments), limits)
        port = taken.getsockname()[1]
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        sys.stderr.write(f"serving on http://{host}:{port}, POST /predict\n")
        listen(app, taken)


def export(arguments: argparse.Namespace) -> None:
    """Write a labeler as a plain transformers folder, adapters merged."""
    _load_labeler(arguments).merge_and_save(arguments.out)
    print(arguments.out)


def push(arguments: argparse.Namespace) -> None:
    """Upload a labeler to a hub: adapters, head, configuration and card, no backbone."""
    print(_load_labeler(arguments).push_to_hub(arguments.repo, private=arguments.private))


def reproduce(arguments: argparse.Namespace) -> None:
    """Train a recorded run again and compare its score."""
    from unmask.results.record import RunRecord
    from unmask.sweep.reproduce import reproduce as train_again

    record = RunRecord.read(arguments.record)
    done = train_again(record, for_notes(), arguments.data_dir, arguments.device)
    print(done.to_text())
    if not done.is_same:
        raise SystemExit(RUN_TIME_ERROR)


def add_to(
    add: Callable[[str, object, str], argparse.ArgumentParser],
    add_data: Callable[[argparse.ArgumentParser], None],
    load: Callable[[argparse.Namespace], Corpus],
) -> None:
    """Add the subcommands, with what the others of `unmask` have for naming data."""

    def add_one(name: str, do: object, text: str) -> argparse.ArgumentParser:
        command = add(name, do, text)
        command.add_argument("model", help="folder of a saved labeler, or owner/name on a hub")
        command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
        command.add_argument("--debug", action="store_true", help="show where an error came from")
        return command

    command = add_one("predict", predict, "label the lines of a file; - reads stdin")
    command.add_argument("file", help="text, one input a line, or -")
    command.add_argument(
        "-b",
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="stretches of text a forward pass (default: %(default)s)",
    )
    command.add_argument(
        "--read-ahead",
        type=int,
        default=READ_AHEAD,
        metavar="N",
        help="lines taken before the first is answered (default: %(default)s; 1 for a live stream)",
    )
    command.add_argument("--threshold", type=float, metavar="P", help="leave out lower scores")
    command.add_argument(
        "--on-truncation",
        choices=("window", "error", "warn"),
        default="window",
        help="lines that are too long: read in windows (default), stop, or cut with a warning",
    )
    command.add_argument(
        "--format", choices=FORMATS, default="unmask", help="of the spans (default: %(default)s)"
    )

    for name, do, split, text in (
        ("evaluate", evaluate, "test", "score a saved labeler on a corpus, with its mistakes"),
        ("calibrate", calibrate, "validation", "make a saved labeler's scores mean what they say"),
    ):
        command = add_one(name, do, text)
        add_data(command)
        command.add_argument("--split", default=split, choices=SPLITS, help="default: %(default)s")
        command.set_defaults(load=load)
        if name == "evaluate":
            command.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")
            command.add_argument("--json", action="store_true", help="JSON in place of text")
            command.add_argument(
                "--against", metavar="FOLDER", help="show what this labeler does better and worse"
            )

    command = add_one("explain", explain, "show which layers' looking right changed a label")
    command.add_argument("file", help="text, one input a line, or -")
    command.add_argument("--other", metavar="FOLDER", help="compare with this labeler instead")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("explain.html"),
        metavar="FILE",
        help="page to write (default: %(default)s)",
    )

    command = add_one("serve", serve, "serve a saved labeler over HTTP")
    command.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    command.add_argument(
        "--port", type=int, default=8000, help="default: %(default)s; 0 takes a free one"
    )
    for flag, default, metavar, what in (
        ("--max-body-bytes", 2**20, "N", "larger requests are refused"),
        ("--max-waiting", 1024, "TEXTS", "beyond these requests are told to come again"),
        ("--max-batch", 32, "TEXTS", "labelled together"),
    ):
        said = f"{what} (default: %(default)s)"
        command.add_argument(flag, type=int, default=default, metavar=metavar, help=said)

    command = add_one("export", export, "write a saved labeler as a plain transformers folder")
    command.add_argument("out", type=Path, help="folder to write")

    command = add_one("push", push, "upload a saved labeler to a hub")
    command.add_argument("repo", help="owner/name")
    command.add_argument(
        "--private", action="store_true", default=None, help="default: as the hub has it"
    )

    command = add("reproduce", reproduce, "train a recorded run again and compare its score")
    command.add_argument("record", type=Path, help="run.json, or the folder that holds it")
    command.add_argument("-d", "--data-dir", type=Path, help="if the data is elsewhere now")
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument("--debug", action="store_true", help="show where an error came from")


def _load_labeler(arguments: argparse.Namespace) -> UnmaskedForTokenClassification:
    from unmask.card import hub_id_of
    from unmask.model import UnmaskedForTokenClassification
    from unmask.saving import is_saved

    name = arguments.model
    if not is_saved(Path(name)) and hub_id_of(name) != name:
        raise ValueError(f"{name} is not a folder written by save_pretrained or a sweep")
    settings: dict[str, Any] = {"device": arguments.device}
    return UnmaskedForTokenClassification.from_pretrained(arguments.model, **settings)


def _check_input(name: str) -> None:
    if name != "-" and (Path(name).is_dir() or not Path(name).exists()):
        raise FileNotFoundError(f"there is no file {name}; give a text file, or - for stdin")


def _lines(name: str) -> Iterator[str]:
    """The lines of a file, or of stdin, without their ends."""
    with sys.stdin.buffer if name == "-" else open(name, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise ValueError(f"{name}:{number}: not UTF-8; convert the text first") from None
