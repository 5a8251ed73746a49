"""`load_task`: the one way from a task's name, or the user's own files, to a Corpus.

Files of the user's own come first (`data_dir`), then the Hub's Parquet at a stated revision, then
an error that says what to type and where the licence stands. The one thing that is easy to get
wrong: mirrors differ. Sentence counts are compared with the published ones and a difference is
said in the notes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from unmask.data.catalogue import GENERATED, TASKS, Task
from unmask.data.folders import find_parquet_splits
from unmask.data.hub import download_dataset, read_parquet
from unmask.data.readers import corpus_of, read_corpus
from unmask.data.sentence import SPLITS, Corpus
from unmask.data.source import ReadOptions, Source
from unmask.data.splits import SPLIT_SEED, take_split
from unmask.data.tags import split_tag

__all__ = ["TASKS", "Task", "load_task"]


def load_task(
    name: str,
    data_dir: Path | str | None = None,
    *,
    train_from: str | None = None,
    validation_from: str | None = None,
    limit_train: int | None = None,
    limit_validation: int | None = None,
    seed: int = SPLIT_SEED,
    column: int | str | None = None,
    repair: bool = False,
) -> Corpus:
    """The corpus of a named task, or of the user's own files under a name of their choice.

    Args:
        name: a key of TASKS; with `data_dir` any other name as well.
        data_dir: folder with files named after the splits, in any format of `readers`.
        train_from: share of another split to train on ("dev", "dev:0.8"), where none is there.
        validation_from: share to hold out for validation, after `train_from`. "train:0.1" is a
            random tenth by `seed`, "train:200" the last 200 sentences.
        limit_train: keep only the first sentences of train, after everything was held out.
        limit_validation: the same of validation.
        seed: of random hold-outs only.
        column: which column or key holds the tags, where the task's own does not fit.
        repair: make entities of stray tags (an I-X that nothing opens), counted in the notes.

    Raises:
        FileNotFoundError: when the data is neither in `data_dir` nor to be had from the Hub.
        ValueError: for an unknown name, files for the generated task, data that cannot be read
            (file and line are named), a label the task does not have, or no training split.
    """
    task = TASKS.get(name)
    if task is None and data_dir is None:
        raise ValueError(_unknown_task(name))
    if name == GENERATED and data_dir is not None:
        raise ValueError(
            f"task {name} is generated and reads no files: give those in {data_dir} a name of "
            "their own, such as --task mine"
        )
    options = ReadOptions(column, repair)
    if task is not None:
        options = ReadOptions(task.column if column is None else column, repair, task.integer_tags)
    if data_dir is not None:
        corpus = read_corpus(data_dir, name, options, task.licence if task else "unknown")
    else:
        corpus = _generated() if task is TASKS[GENERATED] else _from_hub(TASKS[name], options)
    if task is not None:
        corpus = _checked(corpus, task)
    for target, request in (("train", train_from), ("validation", validation_from)):
        if request is not None:
            corpus = take_split(corpus, target, request, seed)
    limited = _limited(_with_gaps_said(corpus), "train", limit_train)
    limited = _limited(limited, "validation", limit_validation)
    return replace(limited, notes=(*limited.notes, *_leaks(limited)))


def _generated() -> Corpus:
    from unmask.data.lookright import generate

    return generate()


def _from_hub(task: Task, options: ReadOptions) -> Corpus:
    own_files = f"give your own files ({task.files}) with --data-dir DIR"
    licence = f"licence: {task.licence}, {task.licence_page}"
    if task.hub_id is None:
        raise FileNotFoundError(f"task {task.name} cannot be downloaded: {own_files}; {licence}")
    try:
        folder, commit = download_dataset(task.hub_id, task.hub_revision, task.hub_config)
        splits = find_parquet_splits(folder)
    except FileNotFoundError as error:
        command = f"hf download {task.hub_id} --repo-type dataset --revision {task.hub_revision}"
        raise FileNotFoundError(
            f"task {task.name}: {error}; run `{command}` where there is a network, or {own_files}; "
            f"{licence}"
        ) from None
    readings = {
        split: read_parquet(paths, Source(str(paths[0]), f"{task.hub_id}/{split}"), options)
        for split, paths in splits.items()
    }
    corpus = corpus_of(task.name, readings, task.licence)
    note = f"{task.hub_id}: read at {task.hub_revision}, commit {commit}"
    return replace(corpus, notes=(note, *corpus.notes))


def _checked(corpus: Corpus, task: Task) -> Corpus:
    """The corpus with the task's full label set, and a note on each unexpected size."""
    notes = [
        f"CHECK THIS: {split} has {len(corpus.split(split))} sentences, {task.name} is known to "
        f"have {expected}; this is another version of the corpus, or part of it"
        for split, expected in zip(SPLITS, task.sizes, strict=True)
        if expected and corpus.split(split) and len(corpus.split(split)) != expected
    ]
    if task.labels is None:
        return replace(corpus, notes=(*corpus.notes, *notes))
    unknown = sorted(set(corpus.labels) - set(task.labels))
    if unknown:
        raise ValueError(
            f"{_first_place(corpus, unknown[0])}: label {unknown[0]!r} is not one of task "
            f"{task.name} ({', '.join(sorted(task.labels))}); unknown are {unknown}; mend the "
            "files, or load them under a name of their own"
        )
    return replace(corpus, labels=tuple(sorted(task.labels)), notes=(*corpus.notes, *notes))


def _first_place(corpus: Corpus, label: str) -> str:
    return next(
        f"{sentence.id}, word {position + 1}"
        for split in SPLITS
        for sentence in corpus.split(split)
        for position, tag in enumerate(sentence.tags)
        if split_tag(tag)[1] == label
    )


def _with_gaps_said(corpus: Corpus) -> Corpus:
    if not corpus.train:
        raise ValueError(
            f"{corpus.name} has no train split; add its file, or say which split to train on, "
            "such as --train-from dev --validation-from train:200"
        )
    advice = {
        "validation": "hold one out with --validation-from train:0.1 before choosing by it",
        "test": "nothing can be scored on it",
    }
    notes = [
        f"there is no {split} split: {advice[split]}" for split in advice if not corpus.split(split)
    ]
    return replace(corpus, notes=(*corpus.notes, *notes))


def _leaks(corpus: Corpus) -> Iterator[str]:
    """What of validation and test stands in an earlier split, word for word."""
    known: set[tuple[str, ...]] = set()
    for split in SPLITS:
        sentences = corpus.split(split)
        num_known = sum(sentence.words in known for sentence in sentences)
        if num_known:
            yield (
                f"{split}: {num_known} of {len(sentences)} sentences also occur in an earlier "
                "split, so scores may flatter; `unmask check-data` lists them"
            )
        known.update(sentence.words for sentence in sentences)


def _limited(corpus: Corpus, split: str, num_sentences: int | None) -> Corpus:
    limited = corpus.limit(split, num_sentences)
    kept, all_of_it = len(limited.split(split)), len(corpus.split(split))
    if kept == all_of_it:
        return limited
    note = f"{split}: only the first {kept} of {all_of_it} sentences, as asked"
    return replace(limited, notes=(*limited.notes, note))


def _unknown_task(name: str) -> str:
    close = difflib.get_close_matches(name, TASKS, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"unknown task {name!r}; {hint}known are {', '.join(TASKS)}; for files of your own give "
        "any name together with --data-dir DIR"
    )
