"""What is fuzzed: a name, a function of bytes, and inputs to begin with.

A target writes the bytes into a file and hands it to the reader that a user would call. Errors
that a user is meant to see (`ALLOWED`) are fine; anything else is a crash.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ALLOWED = (ValueError, FileNotFoundError)

TEXT_SUFFIXES = (".txt", ".conll", ".iob2", ".json", ".jsonl", ".xml")
BINARY_SUFFIXES = (".spacy", ".parquet")


SHARES = {
    "text": 0.45,
    "brat": 0.1,
    "binary": 0.1,
    "settings": 0.05,
    "saved_config": 0.1,
    "adapter": 0.1,
    "records": 0.1,
}
"""The part of all inputs that each target gets."""


class Target(NamedTuple):
    """`run` gets the bytes and a folder of its own; `seeds` are valid inputs to begin with."""

    run: Callable[[bytes, Path], None]
    seeds: list[bytes]


def _corpus_file(suffixes: tuple[str, ...]) -> Callable[[bytes, Path], None]:
    """The first byte picks the ending, the rest is the file."""

    def run(data: bytes, folder: Path) -> None:
        from unmask.data.readers import read_file

        path = folder / f"train{suffixes[data[0] % len(suffixes)] if data else suffixes[0]}"
        path.write_bytes(data[1:])
        read_file(path)

    return run


def _brat(data: bytes, folder: Path) -> None:
    from unmask.data.brat import read_brat
    from unmask.data.source import ReadOptions

    text, _, annotations = data.partition(b"\x00")
    (folder / "one.txt").write_bytes(text)
    (folder / "one.ann").write_bytes(annotations)
    read_brat(folder, ReadOptions())


def _settings(data: bytes, folder: Path) -> None:
    import argparse

    from unmask.config_file import parse
    from unmask.sweep.__main__ import add_flags, recipe_from

    path = folder / "settings.yaml"
    path.write_bytes(data)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    try:
        recipe_from(parse(parser, ["--config", str(path)]))
    except SystemExit as ending:
        if ending.code != 2:  # argparse's own
            raise RuntimeError(f"exit code {ending.code}") from None


def _saved_config(data: bytes, folder: Path) -> None:
    from unmask.saved_folder import CONFIG_FILE, read_config

    (folder / CONFIG_FILE).write_bytes(data)
    read_config(folder)


SHAPES = {"base_model.model.score.weight": (3, 2), "base_model.model.score.bias": (3,)}


def _adapter(data: bytes, folder: Path) -> None:
    from unmask.saved_folder import ADAPTER_FILE, read_adapter

    (folder / ADAPTER_FILE).write_bytes(data)
    read_adapter(folder, SHAPES, "tiny")


def _records(data: bytes, folder: Path) -> None:
    from unmask.results.counts import read_counts
    from unmask.results.ledger import Ledger
    from unmask.results.record import RunRecord
    from unmask.training.checkpoint import CHECKPOINT_FILE, read_checkpoint

    kind, content = (data[0] % 4 if data else 0), data[1:]
    names = ("run.json", "ledger.jsonl", "counts.json", CHECKPOINT_FILE)
    path = folder / names[kind]
    path.write_bytes(content)
    readers = (
        lambda: RunRecord.read(path),
        lambda: Ledger(path).results(),
        lambda: read_counts(path),
        lambda: read_checkpoint(folder, "0123456789abcdef"),
    )
    readers[kind]()


def _safetensors(metadata: dict[str, str] | None = None) -> bytes:
    import torch
    from safetensors.torch import save

    return save({name: torch.zeros(shape) for name, shape in SHAPES.items()}, metadata)


def _doc_bin() -> bytes:
    import spacy
    from spacy.tokens import Doc, DocBin

    doc = Doc(spacy.blank("en").vocab, words=["Anna", "left"], ents=["B-PER", "O"])
    return DocBin(docs=[doc]).to_bytes()


def _parquet() -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table({"tokens": [["Anna", "left"]], "ner_tags": [["B-PER", "O"]]}), stream)
    return stream.getvalue()


def _run_record() -> tuple[bytes, bytes]:
    """A run.json, and the same run as a line of a ledger."""
    from unmask.recipe import load_recipe
    from unmask.results.run import Run, RunResult

    run = Run("tiny", "lookright", "0110", 120, load_recipe("tiny"), "0" * 16)
    result = RunResult(run, {"validation": {"f1": 0.5}}, {"train_loss": [1.0]}, {}, {})
    values = {"format_version": 1, "load_from": "tiny", "data": {}, **result.to_dict()}
    line = json.dumps({"kind": "run", "result": result.to_dict()}) + "\n"
    return json.dumps(values).encode(), line.encode()


CONFIG = {
    "format_version": 1,
    "bidirectional": [False, True, True, False],
    "num_groups": 4,
    "labels": ["LOC", "PER"],
    "temperature": 1.0,
    "max_subtokens": 128,
    "head_dropout": 0.1,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.1, "targets": ["q_proj"]},
    "backbone": {"name": "tiny", "load_from": "tiny", "digest": "0", "dtype": "float32",
                 "quantization": None},
}  # fmt: skip

SEMEVAL = (
    b'<sentences><sentence id="1"><text>Good food</text><aspectTerms><aspectTerm term="food" '
    b'polarity="positive" from="5" to="9"/></aspectTerms></sentence></sentences>'
)
LABEL_STUDIO = (
    b'[{"data": {"text": "Anna left"}, "annotations": [{"result": [{"type": "labels", "value": '
    b'{"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}}]}]}]'
)


def targets() -> dict[str, Target]:
    """All targets by name. Making the seeds imports much of the package: instrument it first."""
    seeds = [
        b"\x00Anna B-PER\nleft O\n\nEU B-ORG\n",
        b"\x02# sent_id = 1\n1\tAnna\tB-PER\t-\tx\n",
        b'\x04{"tokens": ["Anna", "left"], "ner_tags": ["B-PER", "O"]}\n',
        b'\x04{"text": "Anna left", "spans": [{"start": 0, "end": 4, "label": "PER"}]}\n',
        b'\x03[{"tokens": ["Anna"], "ner_tags": ["B-PER"]}]',
        b"\x03" + LABEL_STUDIO,
        b"\x05" + SEMEVAL,
        b'\x04{"words": ["war"], "golden-event-mentions": [{"trigger": {"start": 0, "end": 1}, '
        b'"event_type": "Conflict:Attack"}]}\n',
    ]
    yaml = b'model: tiny\nconfigs: ["0000"]\nseeds: [1, 2]\nrecipe: {preset: quick, epochs: 2}\n'
    record, line = _run_record()
    progress = json.dumps({"run_id": "0123456789abcdef", "steps": 1})
    return {
        "text": Target(_corpus_file(TEXT_SUFFIXES), seeds),
        "brat": Target(_brat, [b"Anna left\x00T1\tPER 0 4\tAnna\n"]),
        "binary": Target(
            _corpus_file(BINARY_SUFFIXES), [b"\x00" + _doc_bin(), b"\x01" + _parquet()]
        ),
        "settings": Target(_settings, [yaml]),
        "saved_config": Target(_saved_config, [json.dumps(CONFIG).encode()]),
        "adapter": Target(_adapter, [_safetensors()]),
        "records": Target(
            _records,
            [
                b"\x00" + record,
                b"\x01" + line,
                b"\x02[[1, 2, 3]]",
                b"\x03" + _safetensors({"progress": progress}),
            ],
        ),
    }
