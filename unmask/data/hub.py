"""Tables of Hugging Face Datasets: Parquet files, saved folders, and the Hub itself.

The Hub is read as Parquet only, from its `refs/convert/parquet` branch or any other revision:
no code of a data set is ever run. The one thing that is easy to get wrong: a branch moves. The
commit that was read is therefore written into the notes, and works as a revision itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.data.records import TAG_KEYS, WORD_KEYS, record_sentence, tag_key
from unmask.data.source import RawSentence, Reading, ReadOptions, Source, finish_reading

if TYPE_CHECKING:
    from datasets import Dataset

PARQUET_REVISION = "refs/convert/parquet"

_DOCUMENT_START = ("-DOCSTART-",)


def read_parquet(paths: Sequence[Path], source: Source, options: ReadOptions) -> Reading:
    """Sentences of one split, from its Parquet files in order; "lines" are rows, from 1.

    Raises:
        ValueError: for a file that is not Parquet or lacks the columns, naming file and row.
    """
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset
    from datasets.table import InMemoryTable

    raws: list[RawSentence] = []
    num_rows = num_left_out = 0
    for path in paths:
        try:
            table = pyarrow.parquet.read_table(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a readable Parquet file ({error})") from None
        rows, left_out = _rows(Dataset(InMemoryTable(table)), str(path), num_rows, options)
        raws.extend(rows)
        num_rows += table.num_rows
        num_left_out += left_out
    return finish_reading(raws, source, "Parquet", options, _left_out_note(num_left_out))


def read_saved_dataset(folder: Path, options: ReadOptions) -> Reading:
    """Sentences of a folder that `Dataset.save_to_disk` wrote; "lines" are rows, from 1.

    Raises:
        ValueError: for a folder that cannot be loaded or lacks the columns.
    """
    from datasets import Dataset

    try:
        dataset = Dataset.load_from_disk(str(folder))
    except Exception as error:  # JSON, Arrow and the library each raise their own
        raise ValueError(
            f"{folder}: not a folder that datasets can load ({type(error).__name__}: {error})"
        ) from None
    return read_dataset(dataset, Source.of(folder), "a saved data set", options)


def read_dataset(
    dataset: Dataset, source: Source, format_name: str, options: ReadOptions
) -> Reading:
    """Sentences of a `datasets.Dataset` in memory; "lines" are rows, from 1.

    Raises:
        ValueError: for one that lacks the columns, or whose rows contradict themselves.
    """
    raws, num_left_out = _rows(dataset, source.path, 0, options)
    return finish_reading(raws, source, format_name, options, _left_out_note(num_left_out))


def download_dataset(
    dataset_id: str,
    revision: str = PARQUET_REVISION,
    config: str | None = None,
    endpoint: str | None = None,
) -> tuple[Path, str]:
    """The folder with a Hub data set's Parquet files, and the commit they are from.

    What was downloaded once is found again without a network (also under HF_HUB_OFFLINE=1).
    `endpoint` is the address of another Hub than the public one.

    Raises:
        FileNotFoundError: when it cannot be had, in one line that says why.
    """
    from huggingface_hub import snapshot_download

    pattern = "*.parquet" if config is None else f"{config}/*.parquet"
    try:
        folder = snapshot_download(
            dataset_id,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[pattern],
            endpoint=endpoint,
        )
    except Exception as error:  # the HTTP client, the file system and the Hub each raise their own
        reason = type(error).__name__
        raise FileNotFoundError(
            f"{dataset_id} at {revision} can be had neither from the Hugging Face Hub nor from its "
            f"cache on this machine ({reason})"
        ) from None
    root = Path(folder)
    return (root / config if config else root), root.name


def _rows(
    dataset: Dataset, path: str, num_before: int, options: ReadOptions
) -> tuple[list[RawSentence], int]:
    columns = set(dataset.column_names)
    if columns.isdisjoint(WORD_KEYS) and not columns >= {"text", "spans"}:
        raise ValueError(
            f'{path}: a table needs columns "tokens" and "ner_tags", or "text" and "spans"; this '
            f"one has {sorted(columns)}"
        )
    wanted = {*WORD_KEYS, *TAG_KEYS, "text", "spans", *_column_keys(options.column)}
    dataset = dataset.select_columns([name for name in dataset.column_names if name in wanted])
    key = tag_key(dataset.column_names, options.column)
    names = _class_names(dataset.features[key]) if key else None
    options = replace(options, tag_names=names or options.tag_names)
    raws: list[RawSentence] = []
    num_left_out = 0
    for number, record in enumerate(dataset.to_list(), start=1):
        raw = record_sentence(record, f"{path}:{number}", num_before + number, options)
        if raw is None or raw.words == _DOCUMENT_START:
            num_left_out += 1
        else:
            raws.append(raw)
    return raws, num_left_out


def _column_keys(column: int | str | None) -> tuple[str, ...]:
    return () if column is None else (str(column), f"{column}_tags")


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a list of ClassLabel, under every spelling of "list" that datasets has had."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    names = getattr(inner, "names", None)
    return tuple(names) if names else None


def _left_out_note(num_left_out: int) -> list[str]:
    return [f"left out {num_left_out} empty or -DOCSTART- rows"] if num_left_out else []
