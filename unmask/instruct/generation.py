"""Answers of a causal language model to queries: batched, with a KV cache, resumable.

Queries are sorted by length and cut into batches once, so that a run that is taken up again works
through the same batches; a batch that did not reach the file whole is generated anew.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from unmask.instruct.constrained import GrammarProcessor, completed
from unmask.instruct.encoding import EncodedPrompt, encode_prompt
from unmask.instruct.prompts import Query
from unmask.instruct.system import Decoding, Grammar

SECONDS_BETWEEN_LINES = 20.0


def generate_file(
    model: Any,
    tokenizer: Any,
    queries: Sequence[Query],
    decoding: Decoding,
    path: Path,
    *,
    settings: Mapping[str, Any],
    batch_size: int = 16,
    grammars: Mapping[str, Grammar] | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, str]:
    """Outputs by query id, written to `path` as they come, one JSON line each.

    The file begins with `settings`; one that was written with others is refused.

    Args:
        model: a causal language model, in eval mode.
        tokenizer: its tokenizer.
        queries: what to answer.
        decoding: how.
        path: JSONL; what it already holds is not generated again.
        settings: whatever decides about outputs (model, adapter, system), as JSON values.
        batch_size: queries at a time.
        grammars: by query id, to let only well-formed answers pass; needs greedy decoding.
        seed: of sampling; each batch has its own stream.
        console: where progress goes.

    Raises:
        ValueError: when `path` was written with other settings, or grammars meet sampling.
    """
    if grammars and (decoding.sample or decoding.num_beams > 1):
        raise ValueError("constrained decoding is greedy: leave sampling and beams out")
    outputs = read_outputs(path, settings)
    room = _prompt_room(model, decoding)
    prompts = sorted(
        (encode_prompt(query, tokenizer, room) for query in queries),
        key=lambda prompt: (-len(prompt.token_ids), prompt.query_id),
    )
    batches = [prompts[i : i + batch_size] for i in range(0, len(prompts), batch_size)]
    missing = [batch for batch in batches if any(one.query_id not in outputs for one in batch)]
    progress = _Progress(console, len(prompts), sum(map(len, missing)))
    with path.open("a", encoding="utf-8") as file, _no_defaults_of(model):
        if path.stat().st_size == 0:
            file.write(json.dumps({"settings": dict(settings)}) + "\n")
        for batch in missing:
            torch.manual_seed(zlib.crc32(f"{seed}/{batch[0].query_id}".encode()))
            rows = [(grammars or {}).get(prompt.query_id) for prompt in batch]
            answers = generate_batch(model, tokenizer, batch, decoding, rows)
            for prompt, answer in zip(batch, answers, strict=True):
                outputs[prompt.query_id] = answer
                file.write(json.dumps({"id": prompt.query_id, "output": answer}) + "\n")
            file.flush()
            progress.advance(len(batch))
    return {query.id: outputs[query.id] for query in queries}


def read_outputs(path: Path, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Outputs that a file holds; a last line that a crash cut short is removed from it.

    Raises:
        ValueError: when the file was written with other settings than `settings`.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    records = [json.loads(line) for line in whole.decode().splitlines()]
    if settings is not None and records:
        found, wanted = records[0].get("settings"), json.loads(json.dumps(dict(settings)))
        if found != wanted:
            raise ValueError(
                f"{path} was generated with other settings ({_difference(found, wanted)}): give "
                "another --out, or delete the file"
            )
    return {record["id"]: record["output"] for record in records if "id" in record}


class _Progress:
    """A line now and then: how many answers there are, and how long the rest will take."""

    def __init__(self, console: Console | None, total: int, num_missing: int) -> None:
        self.console, self.total, self.num_missing = console, total, num_missing
        self.started = self.last_line = time.monotonic()
        self.done = 0
        if console and 0 < num_missing < total:
            console.print(f"{total - num_missing} of {total} answers are there")

    def advance(self, number: int) -> None:
        self.done += number
        now = time.monotonic()
        if self.console is None or now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        left = self.num_missing - self.done
        seconds = (now - self.started) / self.done * left
        self.console.print(f"{self.total - left}/{self.total} answers, about {seconds:.0f} s left")


@contextmanager
def _no_defaults_of(model: Any) -> Iterator[None]:
    """What a model's own generation_config.json says, such as a penalty, does not apply."""
    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[EncodedPrompt],
    decoding: Decoding,
    grammars: Sequence[Grammar | None] = (),
) -> list[str]:
    """The answers to prompts of one batch, cut at the stop strings."""
    generated = generate_ids(model, tokenizer, prompts, decoding, grammars)
    texts = tokenizer.batch_decode(
        generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    texts = [cut_at(text, decoding.stop) for text in texts]
    limits = grammars or [None] * len(texts)
    return [
        completed(text, grammar) if grammar else text
        for text, grammar in zip(texts, limits, strict=True)
    ]


@torch.inference_mode()
def generate_ids(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[EncodedPrompt],
    decoding: Decoding,
    grammars: Sequence[Grammar | None] = (),
) -> list[list[int]]:
    """Token ids of the answers, up to and without the end-of-text token.

    Prompts are padded on the left, where the attention mask hides the padding and positions count
    from each prompt's own first token; an answer is what its prompt would get alone.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = [[pad] * (longest - len(p.token_ids)) + list(p.token_ids) for p in prompts]
    mask = [[0] * (longest - len(p.token_ids)) + [1] * len(p.token_ids) for p in prompts]
    processors = LogitsProcessorList()
    if any(grammars):
        processors.append(GrammarProcessor(grammars, tokenizer, longest))
    rooms = [_answer_room(model, decoding, len(prompt.token_ids)) for prompt in prompts]
    stop = StopAt(decoding.stop, tokenizer, longest, rooms)
    generated = model.generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=_generation_config(tokenizer, decoding, max(rooms)),
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList([stop]),
    )
    answers = [row[:room] for row, room in zip(generated[:, longest:].tolist(), rooms, strict=True)]
    return [_before(row, {pad, end}) for row in answers]


def _before(ids: list[int], ends: set[int]) -> list[int]:
    """The ids before the first that ends an answer."""
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]


class StopAt(StoppingCriteria):
    """Ends a row once a stop string stands in what it has generated, or its room is used up.

    Rooms are tokens that the answer to each prompt may have; beams of a prompt are rows side by
    side.
    """

    def __init__(
        self, stop: Sequence[str], tokenizer: Any, prompt_length: int, rooms: Sequence[int]
    ) -> None:
        self.stop, self.tokenizer, self.prompt_length = tuple(stop), tokenizer, prompt_length
        self.rooms = torch.tensor(rooms)
        # A token spells one letter at least, so a stop string ends within so many tokens.
        self.window = max((len(text) for text in stop), default=0) + 8

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """[rows] of bool."""
        new = input_ids[:, self.prompt_length :]
        ended = (self.rooms <= new.shape[1]).repeat_interleave(len(new) // len(self.rooms))
        if self.stop:
            texts = self.tokenizer.batch_decode(new[:, -self.window :], skip_special_tokens=True)
            found = [any(stop in text for stop in self.stop) for text in texts]
            ended = ended | torch.tensor(found)
        return ended.to(input_ids.device)


def cut_at(text: str, stop: Sequence[str]) -> str:
    r"""The text before the first of the stop strings.

    >>> cut_at("a;b\n### Sentence", ["\n### ", "\n"])
    'a;b'
    """
    ends = [position for mark in stop if (position := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _generation_config(tokenizer: Any, decoding: Decoding, new_tokens: int) -> Any:
    sampling: dict[str, Any] = {}
    if decoding.sample:
        sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=decoding.sample,
        num_beams=decoding.num_beams,
        repetition_penalty=decoding.repetition_penalty,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **sampling,
    )


def _answer_room(model: Any, decoding: Decoding, prompt_length: int) -> int:
    """Tokens that the answer to a prompt may have: one at least."""
    longest = model.config.max_position_embeddings
    if decoding.max_length is not None:
        longest = min(longest, decoding.max_length)
    return max(1, min(decoding.max_new_tokens, longest - prompt_length))


def _prompt_room(model: Any, decoding: Decoding) -> int:
    """Tokens that a prompt may have, leaving room for the answer."""
    room = model.config.max_position_embeddings - decoding.max_new_tokens
    if decoding.max_length is not None:
        room = min(model.config.max_position_embeddings, decoding.max_length) - 1
    return max(room, model.config.max_position_embeddings // 2)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "it has none"
    names = sorted(set(found) | set(wanted))
    return ", ".join(
        f"{name}: {found.get(name)!r}, now {wanted.get(name)!r}"
        for name in names
        if found.get(name) != wanted.get(name)
    )
