"""Files and folders of labelled text -> Corpus, whatever their format.

`READERS` is the register: a format is a name and a function from a path to a `Reading`. The one
thing that is easy to get wrong: an ending does not tell the format (`.json` may hold an array or
one object a line, `.txt` anything), so text files are told apart by how they begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from unmask.data.ace import MENTIONS_KEY, read_ace
from unmask.data.brat import is_brat, read_brat
from unmask.data.conll import read_conll, read_iob2
from unmask.data.docbin import read_docbin
from unmask.data.folders import find_splits
from unmask.data.hub import read_parquet, read_saved_dataset
from unmask.data.label_studio import looks_like_label_studio, read_label_studio
from unmask.data.records import read_json_array, read_jsonl
from unmask.data.semeval import read_semeval
from unmask.data.sentence import SPLITS, Corpus
from unmask.data.source import Reading, ReadOptions, Source, read_text
from unmask.data.tags import split_tag

READERS: dict[str, Callable[[Path, ReadOptions], Reading]] = {
    "ace": read_ace,
    "brat": read_brat,
    "conll": read_conll,
    "iob2": read_iob2,
    "json": read_json_array,
    "jsonl": read_jsonl,
    "label_studio": read_label_studio,
    "parquet": lambda path, options: read_parquet([path], Source.of(path), options),
    "saved": read_saved_dataset,
    "semeval": read_semeval,
    "spacy": read_docbin,
}


def read_corpus(
    folder: Path | str,
    name: str,
    options: ReadOptions | None = None,
    licence: str = "unknown",
) -> Corpus:
    """The corpus in a folder; splits are found by file name, formats by content.

    Splits that are not there stay empty. `labels` are all labels that occur.

    Raises:
        FileNotFoundError: for a missing folder or one without a split.
        ValueError: naming file and line, for what cannot be read.
    """
    options = options or ReadOptions()
    readings = {
        split: read_file(paths[0], options)
        if len(paths) == 1
        else read_parquet(paths, Source(str(paths[0].parent), split), options)
        for split, paths in find_splits(Path(folder)).items()
    }
    return corpus_of(name, readings, licence)


def corpus_of(name: str, readings: Mapping[str, Reading], licence: str = "unknown") -> Corpus:
    """One reading per split as a corpus, with all the labels that occur and all notes."""
    splits = {split: readings[split].sentences if split in readings else () for split in SPLITS}
    labels = {
        split_tag(tag)[1]
        for sentences in splits.values()
        for sentence in sentences
        for tag in sentence.tags
    } - {""}
    notes = tuple(note for reading in readings.values() for note in reading.notes)
    return Corpus(name, **splits, labels=tuple(sorted(labels)), licence=licence, notes=notes)


def read_file(path: Path, options: ReadOptions | None = None) -> Reading:
    """The sentences of one file (or folder: of `datasets`, of BRAT) in whatever format it has.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: naming file and line, for what cannot be read.
    """
    return READERS[detect_format(path)](path, options or ReadOptions())


def detect_format(path: Path) -> str:
    """The key of READERS for a file, by its ending where that is certain, else by its beginning.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: for text that is not UTF-8.
    """
    if path.is_dir():
        return "brat" if is_brat(path) else "saved"
    by_ending = {".spacy": "spacy", ".parquet": "parquet", ".xml": "semeval"}
    if path.suffix.lower() in by_ending:
        return by_ending[path.suffix.lower()]
    text = read_text(path)
    beginning = text.lstrip()[:1]
    is_json = path.suffix.lower() in (".json", ".jsonl") or _begins_with_record(text)
    if beginning in ("{", "[") and is_json:
        if f'"{MENTIONS_KEY}"' in text:
            return "ace"
        if beginning == "[":
            return "label_studio" if looks_like_label_studio(text) else "json"
        return "jsonl"
    if path.suffix.lower() in (".json", ".jsonl"):
        return path.suffix.lower()[1:]
    if text.lstrip().startswith(("<?xml", "<sentences", "<!DOCTYPE")):
        return "semeval"
    return "iob2" if _is_universal_ner(text) else "conll"


def _begins_with_record(text: str) -> bool:
    """Whether the first line is a JSON object; "{" and "[" alone are words of column files."""
    first = text.lstrip().partition("\n")[0].rstrip()
    return first.startswith('{"') and first.endswith("}")


def _is_universal_ner(text: str) -> bool:
    """Whether the first row is "1", a word, a tag, "-" and an annotator, separated by TABs."""
    rows = (line for line in text.split("\n") if line.strip() and not line.startswith("#"))
    cells = next(rows, "").rstrip("\r").split("\t")
    return len(cells) == 5 and cells[0].partition("-")[0] == "1"
