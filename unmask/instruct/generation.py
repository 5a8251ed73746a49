"""Answers of a causal language model to queries: batched, with a KV cache, resumable.

Queries are sorted by length and cut into batches once, so that a run that is taken up again works
through the same batches; a batch that did not reach the file whole is generated anew.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

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
    last_line = time.monotonic()
    with path.open("a", encoding="utf-8") as file:
        if path.stat().st_size == 0:
            file.write(json.dumps({"settings": dict(settings)}) + "\n")
        for number, batch in enumerate(batches, 1):
            if all(prompt.query_id in outputs for prompt in batch):
                continue
            torch.manual_seed(zlib.crc32(f"{seed}/{batch[0].query_id}".encode()))
            rows = [(grammars or {}).get(prompt.query_id) for prompt in batch]
            answers = generate_batch(model, tokenizer, batch, decoding, rows)
            for prompt, answer in zip(batch, answers, strict=True):
                outputs[prompt.query_id] = answer
                file.write(json.dumps({"id": prompt.query_id, "output": answer}) + "\n")
            file.flush()
            if console and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                console.print(f"batch {number}/{len(batches)}", highlight=False)
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


@torch.inference_mode()
def generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[EncodedPrompt],
    decoding: Decoding,
    grammars: Sequence[Grammar | None] = (),
) -> list[str]:
    """The answers to prompts of one batch, cut at the stop strings."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    pad = tokenizer.pad_token_id
    ids = [[pad] * (longest - len(p.token_ids)) + list(p.token_ids) for p in prompts]
    mask = [[0] * (longest - len(p.token_ids)) + [1] * len(p.token_ids) for p in prompts]
    processors = LogitsProcessorList()
    if any(grammars):
        processors.append(GrammarProcessor(grammars, tokenizer, longest))
    generated = model.generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=_generation_config(model, tokenizer, decoding, longest),
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList([StopAt(decoding.stop, tokenizer, longest)]),
    )
    texts = tokenizer.batch_decode(
        generated[:, longest:], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    texts = [cut_at(text, decoding.stop) for text in texts]
    limits = grammars or [None] * len(texts)
    return [
        completed(text, grammar) if grammar else text
        for text, grammar in zip(texts, limits, strict=True)
    ]


class StopAt(StoppingCriteria):
    """Ends a row once a stop string stands in what it has generated."""

    def __init__(self, stop: Sequence[str], tokenizer: Any, prompt_length: int) -> None:
        self.stop, self.tokenizer, self.prompt_length = tuple(stop), tokenizer, prompt_length
        # A token spells one letter at least, so a stop string ends within so many tokens.
        self.window = max((len(text) for text in stop), default=0) + 8

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """[rows] of bool."""
        if not self.stop:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        new = input_ids[:, self.prompt_length :][:, -self.window :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        found = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(found, device=input_ids.device)


def cut_at(text: str, stop: Sequence[str]) -> str:
    r"""The text before the first of the stop strings.

    >>> cut_at("a;b\n### Sentence", ["\n### ", "\n"])
    'a;b'
    """
    ends = [position for mark in stop if (position := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _generation_config(model: Any, tokenizer: Any, decoding: Decoding, longest: int) -> Any:
    from transformers import GenerationConfig

    new_tokens = decoding.max_new_tokens
    if decoding.max_length is not None:
        new_tokens = max(1, min(new_tokens, decoding.max_length - longest))
    sampling: dict[str, Any] = {}
    if decoding.sample:
        sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=min(new_tokens, max(1, model.config.max_position_embeddings - longest)),
        do_sample=decoding.sample,
        num_beams=decoding.num_beams,
        repetition_penalty=decoding.repetition_penalty,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **sampling,
    )


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
