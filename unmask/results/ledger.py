"""The ledger: an append-only JSONL file, one finished run or one test scoring a line.

A record is one `os.write` followed by fsync, under a lock on the file, so that many processes
may append and a kill at any moment costs the record being written at most. The one thing that
is easy to get wrong: the last line may be torn. Reading sets it aside and says so; the next
append moves its bytes to a file beside the ledger and starts on a fresh line. A corrupt line
anywhere else is no accident of ours and is an error.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unmask.results.run import Run, RunResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What a ledger holds: results with their test scores merged in, and what was odd."""

    results: list[RunResult]
    warnings: list[str]


class Ledger:
    """Results on disk. The file and its folder are made by the first append.

    >>> import tempfile
    >>> Ledger(Path(tempfile.mkdtemp()) / "ledger.jsonl").results()
    []
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._reported: set[str] = set()

    @property
    def torn_path(self) -> Path:
        """Where the bytes of torn lines are kept for whoever wants to look."""
        return self.path.with_name(self.path.name + ".torn")

    def append_run(self, result: RunResult) -> None:
        """Write a run that came to an end, finished or diverged.

        Raises:
            OSError: when the disk does not take the whole record; the ledger is as before.
        """
        with self._locked_for_append() as file:
            _append(file, self.path, {"kind": "run", "result": result.to_dict()})

    def append_test(self, run_id: str, scores: dict[str, Any]) -> None:
        """Write the test scores of a run that is already in the ledger, once.

        Raises:
            ValueError: for a run that is not here or whose test split was scored before.
            OSError: when the disk does not take the whole record; the ledger is as before.
        """
        with self._locked_for_append() as file:
            known = {one.run.id: one for one in _merge(_read(file, self.path), []).values()}
            if run_id not in known:
                raise ValueError(
                    f"{self.path} has no run {run_id}; append the run before its test scores"
                )
            if "test" in known[run_id].scores:
                raise ValueError(
                    f"{self.path}: run {run_id} ({known[run_id].run.name}) was scored on test "
                    "before; the test split is scored once"
                )
            _append(file, self.path, {"kind": "test", "run_id": run_id, "scores": scores})

    def read(self) -> Contents:
        """All results in the order they were written, and warnings in words.

        Of several records of one run the first counts. Warnings are logged once per Ledger.

        Raises:
            ValueError: for a corrupt line before the last, naming file and line.
        """
        warnings = self._torn_before()
        if not self.path.exists():
            return Contents([], warnings)
        with open(self.path, "rb") as stream, _lock(stream.fileno(), exclusive=False):
            results = _merge(_read(stream.fileno(), self.path, warnings), warnings)
        for warning in warnings:
            if warning not in self._reported:
                _log.warning("%s", warning)
                self._reported.add(warning)
        return Contents(list(results.values()), warnings)

    def results(self) -> list[RunResult]:
        """All results, test scores merged into `scores["test"]`."""
        return self.read().results

    def warnings(self) -> list[str]:
        """What was odd about the file: torn lines, runs written twice."""
        return self.read().warnings

    def finished_ids(self) -> set[str]:
        """Ids of all runs that came to an end; a diverged run would only diverge again."""
        return {one.run.id for one in self.results()}

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Those of `runs` that are still to be done, in the given order."""
        finished = self.finished_ids()
        return [run for run in runs if run.id not in finished]

    @contextmanager
    def _locked_for_append(self) -> Iterator[int]:
        """A descriptor under an exclusive lock, at the start of a fresh line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with _lock(file, exclusive=True):
                if os.fstat(file).st_size == 0:
                    _sync_folder(self.path.parent)
                _set_torn_line_aside(file, self.torn_path)
                yield file
        finally:
            os.close(file)

    def _torn_before(self) -> list[str]:
        if not self.torn_path.exists():
            return []
        return [f"{self.torn_path}: a torn record was set aside here by a later append"]


@contextmanager
def _lock(file: int, exclusive: bool) -> Iterator[None]:
    """Hold an advisory lock; the system releases it if the process dies."""
    import fcntl  # not on Windows, where only this fails

    fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _append(file: int, path: Path, record: dict[str, Any]) -> None:
    try:
        text = json.dumps(_finite(record), separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise TypeError(f"{path}: {error}; a record holds plain numbers and text only") from error
    line = text.encode() + b"\n"
    length_before = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        os.fsync(file)
    except OSError as error:
        os.ftruncate(file, length_before)
        raise OSError(
            error.errno,
            f"could not write a record of {len(line)} bytes ({error.strerror}); the ledger is "
            "unchanged: make room and append again",
            str(path),
        ) from error
    if written < len(line):
        os.ftruncate(file, length_before)
        raise OSError(
            f"{path}: the disk took {written} of a record's {len(line)} bytes; the ledger is "
            "unchanged: make room and append again"
        )


def _read(
    file: int, path: Path, warnings: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", record) for each whole line."""
    content = _content(file)
    lines = content.split(b"\n")
    last = lines.pop()
    for number, line in enumerate(lines, start=1):
        yield f"{path}:{number}", _parse(line, f"{path}:{number}")
    if _is_whole(last):
        yield f"{path}:{len(lines) + 1}", json.loads(last)
    elif last and warnings is not None:
        warnings.append(
            f"{path}:{len(lines) + 1}: the last record is torn ({len(last)} bytes, from a run that "
            "was killed while writing or a disk that was full); it does not count"
        )


def _merge(
    records: Iterable[tuple[str, dict[str, Any]]], warnings: list[str]
) -> dict[str, RunResult]:
    """Results by run id, first come first, with test scores put in."""
    results: dict[str, RunResult] = {}
    for place, record in records:
        if record.get("kind") == "run":
            result = _result(record, place)
            if (first := results.get(result.run.id)) is not None:
                other = "" if _same_f1(first, result) else " with another validation F1"
                warnings.append(
                    f"{place}: {result.run.name} was written before{other}; the first counts"
                )
            else:
                results[result.run.id] = result
        elif record.get("kind") == "test":
            _merge_test(record, place, results, warnings)
        else:
            raise ValueError(
                f"{place}: unknown kind of record {record.get('kind')!r}; expected run or test"
            )
    return results


def _merge_test(
    record: dict[str, Any], place: str, results: dict[str, RunResult], warnings: list[str]
) -> None:
    run_id, scores = record.get("run_id"), record.get("scores")
    if not isinstance(run_id, str) or not _is_score(scores):
        raise ValueError(
            f"{place}: not a record of test scores: expected run_id, a text, and scores with f1"
        )
    known = results.get(run_id)
    if known is None:
        warnings.append(f"{place}: test scores of run {run_id}, which is not here; left out")
    elif "test" in known.scores:
        warnings.append(f"{place}: {known.run.name} was scored on test before; the first counts")
    else:
        results[run_id] = replace(known, scores={**known.scores, "test": scores})


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{place} is corrupt ({error}); a kill can only tear the last line, so look at the "
            "file and remove or repair this line by hand"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected a JSON object, found {line[:40]!r}")
    return record


def _result(record: dict[str, Any], place: str) -> RunResult:
    try:
        result = RunResult.from_dict(record["result"])
    except KeyError as error:
        raise ValueError(f"{place}: not a record of a run: it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{place}: not a record of a run: {error}") from error
    if wrong := _wrong_field(result):
        raise ValueError(
            f"{place}: not a record of a run: its {wrong} cannot be read; look at the file and "
            "remove or repair this line by hand"
        )
    curves = {
        name: [math.nan if value is None else value for value in values]
        for name, values in result.curves.items()
    }
    return replace(result, curves=curves)


def _same_f1(first: RunResult, second: RunResult) -> bool:
    one, other = (result.scores.get("validation", {}).get("f1") for result in (first, second))
    return one == other


def _wrong_field(result: RunResult) -> str | None:
    """The first field that is not what everything that reads results takes it for."""
    run = result.run
    texts = (run.backbone, run.task, run.config, run.data_fingerprint)
    are_right = {
        "run": all(isinstance(one, str) for one in texts) and type(run.seed) is int,
        "status": result.status in ("finished", "diverged"),
        "scores": isinstance(result.scores, dict) and all(map(_is_score, result.scores.values())),
        "curves": _is_dict_of(result.curves, list),
        "timings": _is_dict_of(result.timings, int | float | None),
        "environment": _is_dict_of(result.environment, str),
    }
    return next((name for name, is_right in are_right.items() if not is_right), None)


def _is_score(value: Any) -> bool:
    """A dict whose F1, where it has one, is a number (null where it was not a number)."""
    return isinstance(value, dict) and isinstance(value.get("f1"), int | float | None)


def _is_dict_of(value: Any, kind: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, kind) for one in value.values())


def _is_whole(line: bytes) -> bool:
    """Whether a line that lacks its newline is a whole record all the same."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _set_torn_line_aside(file: int, torn_path: Path) -> None:
    content = _content(file)
    start = content.rfind(b"\n") + 1
    last = content[start:]
    if not last:
        return
    if _is_whole(last):
        os.write(file, b"\n")
        return
    with open(torn_path, "ab") as torn:
        torn.write(last + b"\n")
        torn.flush()
        os.fsync(torn.fileno())
    os.ftruncate(file, start)


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut as well as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    """The same value with null for what JSON has no number for (a diverged loss)."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
