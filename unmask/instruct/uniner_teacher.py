"""Data for UniversalNER from a large model: ask about passages, read, filter, keep.

The teacher is any server that speaks the OpenAI chat protocol. Whatever it answers in another
form than the one asked for costs the whole passage, as in the paper; nothing is repaired.
"""

from __future__ import annotations

import json
import threading
import time
import unicodedata
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.parsing import balanced, load_literal

SYSTEM_MESSAGE = "You are a helpful information extraction system."
PROMPTS = {
    "type": "Given a passage, your task is to extract all entities and identify their entity "
    "types. The output should be in a list of tuples of the following format: "
    '[("entity 1", "type of entity 1"), ...].\n\nPassage: {passage}',
    "definition": "Given a paragraph, your task is to extract all entities and concepts, and "
    "define their type using a short sentence. The output should be in the following format: "
    '[("entity", "definition of entity type in a short sentence"), ... ]\n\nPassage: {passage}',
}
"""What the teacher is asked, by variant."""

NO_TYPES = frozenset({"none", "na", "n/a", "misc", "miscellaneous", "else", "other", "null", ""})
RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Teacher:
    """A chat model behind an OpenAI-compatible endpoint.

    `base_url` ends where "/chat/completions" begins, such as "http://127.0.0.1:8000/v1".
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    temperature: float = 0.0
    timeout_seconds: float = 120.0
    num_tries: int = 5
    first_wait_seconds: float = 1.0

    def ask(self, prompt: str) -> str:
        """The answer to one prompt.

        Raises:
            RuntimeError: when the endpoint refuses, or still fails after `num_tries`.
        """
        message = {
            "model": self.model,
            "temperature": self.temperature,
            "messages": [
                {"role": "system", "content": SYSTEM_MESSAGE},
                {"role": "user", "content": prompt},
            ],
        }
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(
            f"{self.base_url.rstrip('/')}/chat/completions", json.dumps(message).encode(), headers
        )
        reason = "it was not asked"
        for attempt in range(self.num_tries):
            if attempt:
                time.sleep(self.first_wait_seconds * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
                    return _content(response.read(), self.base_url)
            except urllib.error.HTTPError as error:
                reason = f"it answered {error.code}"
                error.close()
                if error.code not in RETRIED:
                    break
            except OSError as error:
                reason = f"it is out of reach ({error})"
        raise RuntimeError(f"the teacher at {self.base_url} gave no answer: {reason}")


def _content(body: bytes, url: str) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise RuntimeError(
            f"{url} does not speak the chat protocol: expected choices[0].message.content, got "
            f"{body[:80]!r}"
        ) from None
    return content or ""


def chunk_passages(documents: Iterable[str], max_words: int = 256) -> Iterator[str]:
    """Documents cut into passages of at most so many words, single-spaced; empty ones left out."""
    for document in documents:
        words = document.split()
        for start in range(0, len(words), max_words):
            yield " ".join(words[start : start + max_words])


def read_teacher_answer(answer: str) -> list[tuple[str, str]] | None:
    """(entity, type) pairs of an answer; None when it is not a list of pairs of strings.

    >>> read_teacher_answer('[("Bush", "person"), ("Iraq", "country")]')
    [('Bush', 'person'), ('Iraq', 'country')]
    >>> read_teacher_answer('[("Bush",)]') is None
    True
    """
    start = answer.find("[")
    end = balanced(answer, start) if start >= 0 else None
    if end is None:
        return None
    found, pairs = load_literal(answer[start:end])
    if not found or not isinstance(pairs, list):
        return None
    good = all(
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(part, str) and part.strip() for part in pair)
        for pair in pairs
    )
    return [(pair[0].strip(), pair[1].strip()) for pair in pairs] if good else None


def kept_entities(
    passage: str, pairs: Sequence[tuple[str, str]], counts: Counter[str], grounded: bool = False
) -> tuple[Entity, ...]:
    """Pairs that pass the filters, each once, grouped by type in order of first appearance.

    Dropped are catch-all types and entities in another script than Latin, and with `grounded`
    entities that are not in the passage. `counts` is told how many and why.
    """
    by_type: dict[str, list[str]] = {}
    for text, kind in pairs:
        counts["not in the passage"] += text not in passage
        if kind.casefold() in NO_TYPES:
            counts["dropped: catch-all type"] += 1
        elif not _is_latin(text):
            counts["dropped: not English"] += 1
        elif text in passage or not grounded:
            by_type.setdefault(kind, []).append(text)
    return tuple(
        Entity(text, kind) for kind, texts in by_type.items() for text in dict.fromkeys(texts)
    )


def _is_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return all(
        letter.isascii() or unicodedata.name(letter, "").startswith("LATIN") for letter in letters
    )


def distil(
    passages: Sequence[str],
    teacher: Teacher,
    answers_path: Path,
    variant: str = "type",
    num_workers: int = 4,
) -> int:
    """Ask about every passage that `answers_path` has no answer to yet; one JSON line each.

    Returns:
        How many were asked now.
    """
    if variant not in PROMPTS:
        raise ValueError(f"variant must be one of {', '.join(PROMPTS)}, got {variant!r}")
    done = {record["passage"] for record in _records(answers_path)}
    missing = [passage for passage in dict.fromkeys(passages) if passage not in done]
    lock = threading.Lock()
    with answers_path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(num_workers) as pool:

        def ask(passage: str) -> None:
            answer = teacher.ask(PROMPTS[variant].replace("{passage}", passage))
            with lock:
                file.write(json.dumps({"passage": passage, "answer": answer}) + "\n")
                file.flush()

        for future in [pool.submit(ask, passage) for passage in missing]:
            future.result()
    return len(missing)


def read_answers(
    answers_path: Path, grounded: bool = False
) -> tuple[list[IEExample], Counter[str]]:
    """Examples from the teacher's answers, and counts of what was kept and dropped.

    Types are natural names already. A passage whose answer cannot be read is dropped whole.
    """
    counts: Counter[str] = Counter()
    examples = []
    for index, record in enumerate(_records(answers_path)):
        counts["passages"] += 1
        pairs = read_teacher_answer(record["answer"])
        if pairs is None:
            counts["dropped: misformatted answer"] += 1
            continue
        entities = kept_entities(record["passage"], pairs, counts, grounded)
        if not entities:
            counts["dropped: no entity left"] += 1
            continue
        counts["kept passages"] += 1
        counts["entities"] += len(entities)
        examples.append(
            IEExample(f"{answers_path.stem}/{index}", record["passage"], items=entities)
        )
    counts["types"] = len({item.type for one in examples for item in one.of(Entity)})
    return examples, counts


def _records(path: Path) -> Iterator[dict[str, str]]:
    """The whole lines of a file of answers; a line that a crash cut short is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
