"""Label Studio's JSON export: tasks with a text and labelled regions of it; also its JSON-MIN.

The one thing that is easy to get wrong: Label Studio runs in a browser, where offsets count
UTF-16 units, so one emoji shifts all that follows. A region carries its own text; where it does
not stand at the offsets read as characters, they are read as UTF-16 units.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unmask.data.records import iter_json_array, record_sentence
from unmask.data.sentence import Sentence
from unmask.data.source import RawSentence, Reading, ReadOptions, Source, finish_reading
from unmask.data.tags import spans_from_tags

TEXT_KEYS = ("text", "value")
FROM_NAME, TO_NAME = "label", "text"
"""Names of the control tags in a labelling set-up for named entities, as Label Studio's own
template has them; an import whose set-up uses other names needs these two changed."""


def read_label_studio(path: Path, options: ReadOptions) -> Reading:
    """The labelled regions of every task; of several annotations of a task the first counts.

    Raises:
        ValueError: naming the line, for a task without text, or a region that is not readable,
            overlaps another, or does not begin and end where words do.
    """
    raws: list[RawSentence] = []
    counts = {
        "tasks without a finished annotation left out": 0,
        "further annotations of a task left out": 0,
        "regions that are no labels left out": 0,
        "tasks without words left out": 0,
    }
    for line, task in iter_json_array(path):
        place = f"{path}:{line}"
        regions, num_further, num_other = _regions(task)
        counts["further annotations of a task left out"] += num_further
        counts["regions that are no labels left out"] += num_other
        if regions is None:
            counts["tasks without a finished annotation left out"] += 1
            continue
        text = _text(task, place)
        spans = [_span(region, text, place) for region in regions]
        raw = record_sentence({"text": text, "spans": spans}, place, line, options)
        if raw is None:
            counts["tasks without words left out"] += 1
        else:
            raws.append(raw)
    notes = [f"{count} {what}" for what, count in counts.items() if count]
    return finish_reading(raws, Source.of(path), "Label Studio JSON", options, notes)


def looks_like_label_studio(text: str) -> bool:
    """Is this JSON array an export of Label Studio? By its first task."""
    position = text.find("{")
    try:
        task, _ = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return False
    if not isinstance(task, dict):
        return False
    is_min = isinstance(task.get("label"), list) and isinstance(task.get("text"), str)
    return is_min or (isinstance(task.get("data"), dict) and "annotations" in task)


def write_label_studio(
    sentences: Iterable[Sentence], path: Path, model_version: str | None = None
) -> None:
    """Write tasks to import: tags as annotations, or as predictions of a `model_version`."""
    kind = "annotations" if model_version is None else "predictions"
    tasks = []
    for sentence in sentences:
        text = " ".join(sentence.words)
        result: dict[str, Any] = {"result": list(_to_regions(sentence, text))}
        if model_version is not None:
            result["model_version"] = model_version
        tasks.append({"data": {"text": text, "id": sentence.id}, kind: [result]})
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _regions(task: dict[str, Any]) -> tuple[list[Any] | None, int, int]:
    """Labelled regions (None if nothing is finished), further annotations, other regions."""
    if isinstance(task.get("label"), list) and "annotations" not in task:
        return task["label"], 0, 0
    annotations = task.get("annotations")
    given = annotations if isinstance(annotations, list) else []
    finished = [a for a in given if isinstance(a, dict) and not a.get("was_cancelled")]
    if not finished:
        return None, 0, 0
    result = finished[0].get("result") or []
    labels = [r for r in result if isinstance(r, dict) and r.get("type") == "labels"]
    return [r.get("value") for r in labels], len(finished) - 1, len(result) - len(labels)


def _text(task: dict[str, Any], place: str) -> str:
    data = task.get("data", task)
    texts = [data[key] for key in TEXT_KEYS if isinstance(data.get(key), str)]
    if not texts and isinstance(data, dict):
        texts = [value for value in data.values() if isinstance(value, str)]
    if len(texts) != 1:
        raise ValueError(
            f'{place}: a task needs one text under "data", such as {{"text": "..."}}; this one has '
            f"{sorted(data) if isinstance(data, dict) else data!r:.60}"
        )
    return texts[0]


def _span(region: Any, text: str, place: str) -> dict[str, Any]:
    fields = region if isinstance(region, dict) else {}
    match [fields.get("start"), fields.get("end"), fields.get("labels")]:
        case [int(start), int(end), [str(label)]]:
            pass
        case _:
            raise ValueError(
                f'{place}: a region needs whole numbers "start" and "end" and one label in '
                f'"labels", got {region!r:.80}'
            )
    said = fields.get("text")
    if isinstance(said, str) and text[start:end] != said:
        start, end = _from_utf16(text, start), _from_utf16(text, end)
        if text[start:end] != said:
            raise ValueError(
                f"{place}: the region {said!r:.40} does not stand at {fields['start']} to "
                f"{fields['end']} in its text; export the tasks again"
            )
    stripped = text[start:end].strip()
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return {"start": start, "end": start + len(stripped), "label": label}


def _from_utf16(text: str, units: int) -> int:
    """The character that begins after `units` UTF-16 units."""
    return len(text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore"))


def _to_regions(sentence: Sentence, text: str) -> Iterator[dict[str, Any]]:
    starts, position = [], 0
    for word in sentence.words:
        starts.append(position)
        position += len(word) + 1
    for number, span in enumerate(spans_from_tags(sentence.tags)):
        start = starts[span.start]
        end = starts[span.end - 1] + len(sentence.words[span.end - 1])
        yield {
            "id": str(number),
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "type": "labels",
            "value": {
                "start": _utf16_length(text[:start]),
                "end": _utf16_length(text[:end]),
                "text": text[start:end],
                "labels": [span.label],
            },
        }


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
