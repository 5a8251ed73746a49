"""Which files of a folder are the train, validation and test split.

Found by name (`eng.testa`, `dev.conll`, `Restaurants_Train_v2.xml`, `train/0000.parquet`). The one
thing that is easy to get wrong: two files that could both be one split. That is an error that
names them, never a choice made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unmask.data.brat import is_brat
from unmask.data.sentence import SPLITS

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "development", "devel", "dev", "testa"),
    "test": ("test", "testing", "testb"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_OF_WORD)})(?![a-z])")

SUFFIXES = frozenset(
    [
        *(".txt", ".tsv", ".conll", ".conll03", ".iob", ".iob2", ".bio", ".bioes", ".ner"),
        *(".annotated", ".jsonl", ".json", ".xml", ".spacy"),
    ]
)
"""Endings of files that may be a split; `eng.train` and its like count too."""

_SHARD = re.compile(r"(.*-)?\d+(-of-\d+)?")


def split_of(name: str) -> str | None:
    """The split that a file, folder or table is named after, None for none.

    Raises:
        ValueError: when the name speaks of two splits.

    >>> split_of("eng.testa"), split_of("en_ewt-ud-dev.iob2"), split_of("readme.md")
    ('validation', 'validation', None)
    """
    splits = {_SPLIT_OF_WORD[word] for word in _SPLIT_WORD.findall(name.lower())}
    if len(splits) > 1:
        raise ValueError(
            f"the name {name!r} speaks of {' and '.join(sorted(splits))}; rename it after one split"
        )
    return splits.pop() if splits else None


def find_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Split name -> its file, its folder (saved by `datasets`, or of BRAT), or its Parquet shards.

    Raises:
        FileNotFoundError: when there is no such folder, or nothing in it is named after a split.
        ValueError: when two files could be the same split.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"the data folder {folder} {what}; give a folder with files such as train.txt, dev.txt "
            "and test.txt"
        )
    if _is_saved_dataset(folder) or is_brat(folder):
        return {split_of(folder.name) or "train": (folder,)}
    entries = [entry for entry in sorted(folder.iterdir()) if _may_be_split(entry)]
    if not entries:
        return find_parquet_splits(folder)
    return {split: (_only(split, paths),) for split, paths in _by_split(entries).items()}


def find_parquet_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Split name -> its Parquet files, in order, anywhere below `folder`.

    Raises:
        FileNotFoundError: when no Parquet file is named after a split or lies in a folder that is.
        ValueError: for the files of two configurations, or two for one split that are no shards.
    """
    found: dict[str, list[Path]] = {}
    configurations: set[Path] = set()
    for path in sorted(folder.rglob("*.parquet")):
        by_folder = path.parent != folder and split_of(path.parent.name)
        split = by_folder or split_of(path.stem)
        if split:
            found.setdefault(split, []).append(path)
            configurations.add(path.parent.parent if by_folder else path.parent)
    if not found:
        raise FileNotFoundError(_nothing_found(folder))
    if len(configurations) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(configurations))
        raise ValueError(f"{folder} holds several data sets ({names}); point to one of them")
    for split, paths in found.items():
        if not all(_SHARD.fullmatch(path.stem) for path in paths):
            _only(split, paths)
    return {split: tuple(found[split]) for split in SPLITS if split in found}


def _may_be_split(entry: Path) -> bool:
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        is_data = _is_saved_dataset(entry) or is_brat(entry)
        return is_data and split_of(entry.name) is not None
    suffix = entry.suffix.lower()
    is_data = suffix in SUFFIXES or suffix[1:] in _SPLIT_OF_WORD
    return is_data and split_of(entry.name) is not None


def _is_saved_dataset(folder: Path) -> bool:
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def _by_split(entries: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for entry in entries:
        split = split_of(entry.name)
        if split:
            found[split].append(entry)
    return {split: paths for split, paths in found.items() if paths}


def _only(split: str, paths: list[Path]) -> Path:
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise ValueError(
            f"{paths[0].parent}: {names} could each be the {split} split; leave one there"
        )
    return paths[0]


def _nothing_found(folder: Path) -> str:
    there = ", ".join(entry.name for entry in sorted(folder.iterdir())[:8]) or "nothing"
    return (
        f"no file in {folder} is named after a split (train, dev or valid, test) and ends in "
        f"{', '.join(sorted(SUFFIXES))} or .parquet; it holds {there}"
    )
