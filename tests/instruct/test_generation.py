from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from unmask.backbones import load_causal_lm
from unmask.data.sentence import Sentence
from unmask.instruct.encoding import encode_prompt
from unmask.instruct.examples import example_from_sentence
from unmask.instruct.generation import (
    StopAt,
    cut_at,
    generate_batch,
    generate_file,
    generate_ids,
    read_outputs,
)
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import SYSTEMS, load_system
from unmask.instruct.system import Decoding
from unmask.instruct.workspace import write_lines

LABELS = LabelSet(("LOC", "PER"))
SHORT = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def loaded(small_model):
    return load_causal_lm(str(small_model), "float32", None, "cpu")


def queries_of(system, number=5):
    sentences = [
        Sentence(f"s{i}", ("Vana", *["went"] * (i + 1)), ("B-PER", *["O"] * (i + 1)))
        for i in range(number)
    ]
    return [q for s in sentences for q in system.render(example_from_sentence(s), LABELS)]


def run(loaded, queries, path, decoding=SHORT, **changes):
    given = {"settings": {"model": "small"}, "batch_size": 2, **changes}
    return generate_file(loaded.model, loaded.tokenizer, queries, decoding, path, **given)


def written_alone(loaded, prompt, num_tokens, end) -> list[int]:
    """Greedy decoding one prompt and one token at a time, without padding and without a cache."""
    ids = list(prompt.token_ids)
    while len(ids) < len(prompt.token_ids) + num_tokens:
        with torch.no_grad():
            best = int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if best == end:
            break
        ids.append(best)
    return ids[len(prompt.token_ids) :]


@pytest.mark.parametrize("ends_early", [False, True])
def test_a_batch_with_a_cache_writes_token_by_token_what_each_prompt_gets_alone(loaded, ends_early):
    tokenizer = copy.deepcopy(loaded.tokenizer)
    prompts = [encode_prompt(query, tokenizer, 400) for query in queries_of(load_system("it"))]
    assert len({len(prompt.token_ids) for prompt in prompts}) == len(prompts)
    if ends_early:
        # A random model never ends by itself: what the first answer says third shall be the end.
        third = written_alone(loaded, prompts[0], 3, None)[2]
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(third)
    end = tokenizer.eos_token_id
    expected = [written_alone(loaded, prompt, SHORT.max_new_tokens, end) for prompt in prompts]
    assert generate_ids(loaded.model, tokenizer, prompts, SHORT) == expected
    lengths = {len(ids) for ids in expected}
    assert (2 in lengths, SHORT.max_new_tokens in lengths) == (ends_early, True)
    texts = generate_batch(loaded.model, tokenizer, prompts, SHORT)
    assert texts == [tokenizer.decode(ids) for ids in expected]


def test_the_room_of_an_answer_does_not_depend_on_its_batch(loaded):
    prompts = [encode_prompt(q, loaded.tokenizer, 400) for q in queries_of(load_system("it"))]
    longest = max(len(prompt.token_ids) for prompt in prompts)
    decoding = Decoding(12, max_length=longest + 3)
    together = generate_ids(loaded.model, loaded.tokenizer, prompts, decoding)
    assert [len(ids) for ids in together] == [
        min(12, longest + 3 - len(prompt.token_ids)) for prompt in prompts
    ]
    beams = replace(decoding, num_beams=2)
    searched = generate_ids(loaded.model, loaded.tokenizer, prompts, beams)
    assert [len(ids) for ids in searched] == [len(ids) for ids in together]


def test_what_a_models_own_file_says_about_generation_does_not_apply(loaded, tmp_path):
    queries = queries_of(load_system("it"), 2)
    expected = run(loaded, queries, tmp_path / "plain.jsonl")
    model = copy.deepcopy(loaded.model)
    for name, value in {"no_repeat_ngram_size": 1, "max_length": 7, "suppress_tokens": [5]}.items():
        setattr(model.generation_config, name, value)
    assert run(replace(loaded, model=model), queries, tmp_path / "own.jsonl") == expected
    assert model.generation_config.no_repeat_ngram_size == 1


@pytest.mark.parametrize("sample", [False, True])
def test_an_interrupted_run_ends_as_if_it_had_not_been(loaded, tmp_path, sample):
    decoding = Decoding(4, sample=sample, temperature=0.6, top_p=0.9)
    queries = queries_of(load_system("it"))
    whole = run(loaded, queries, tmp_path / "whole.jsonl", decoding)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    # The second batch is half there, and its last line is torn.
    (tmp_path / "cut.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    assert run(loaded, queries, tmp_path / "cut.jsonl", decoding) == whole
    assert read_outputs(tmp_path / "cut.jsonl") == whole


def test_what_is_there_is_not_generated_again(loaded, tmp_path):
    queries, path = queries_of(load_system("it")), tmp_path / "o.jsonl"
    lines = [{"settings": {"model": "small"}}]
    lines += [{"id": query.id, "output": "kept"} for query in queries]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(run(loaded, queries, path).values()) == {"kept"}


def test_outputs_of_other_settings_are_refused(loaded, tmp_path):
    queries, path = queries_of(load_system("it"), 1), tmp_path / "o.jsonl"
    run(loaded, queries, path)
    with pytest.raises(ValueError, match=r"other settings .*model: 'small', now 'large'"):
        run(loaded, queries, path, settings={"model": "large"})


@pytest.mark.parametrize("name", SYSTEMS)
def test_constrained_answers_always_parse(loaded, tmp_path, name):
    system = load_system(name)
    queries = queries_of(system, 2)
    grammars = {query.id: system.grammar(query) for query in queries}
    free = run(loaded, queries, tmp_path / "free.jsonl", SHORT)
    bound = run(loaded, queries, tmp_path / "bound.jsonl", grammars=grammars)
    by_id = {query.id: query for query in queries}
    statuses = [system.parse(text, by_id[key]).status for key, text in bound.items()]
    assert set(statuses) <= {"ok", "empty"}
    assert {system.parse(text, by_id[key]).status for key, text in free.items()} == {"malformed"}


def test_constraints_need_greedy_decoding(loaded, tmp_path):
    queries = queries_of(load_system("it"), 1)
    grammars = {queries[0].id: load_system("it").grammar(queries[0])}
    with pytest.raises(ValueError, match="constrained decoding is greedy"):
        run(loaded, queries, tmp_path / "o.jsonl", replace(SHORT, sample=True), grammars=grammars)


def test_generation_stops_at_a_stop_string(tiny_tokenizer):
    ids = tiny_tokenizer(["ab ; x", "ab cd x"], padding=True, return_tensors="pt")["input_ids"]
    assert StopAt((";",), tiny_tokenizer, 0, [99, 99])(ids, None).tolist() == [True, False]
    assert StopAt((), tiny_tokenizer, 0, [99, 2])(ids, None).tolist() == [False, True]
    assert cut_at("ab;cd\nx", ("\n", ";")) == "ab"
    assert cut_at("ab", ("\n",)) == "ab"


KILLED = """
import sys
from pathlib import Path
from unmask.backbones import load_causal_lm
from unmask.instruct.generation import generate_file
from unmask.instruct.workspace import read_queries
from unmask.instruct.system import Decoding
loaded = load_causal_lm(sys.argv[1], "float32", None, "cpu")
queries = read_queries(Path(sys.argv[2]), "test")
print("ready", flush=True)
generate_file(
    loaded.model, loaded.tokenizer, queries, Decoding(40), Path(sys.argv[2]) / "o.jsonl",
    settings={}, batch_size=1,
)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was(loaded, small_model, tmp_path):
    queries = queries_of(load_system("it"), 60)
    write_lines(tmp_path / "test.queries.jsonl", queries)
    whole = run(loaded, queries, tmp_path / "whole.jsonl", Decoding(40), settings={}, batch_size=1)
    command = [sys.executable, "-c", KILLED, str(small_model), str(tmp_path)]
    path = tmp_path / "o.jsonl"
    for wanted in (5, 25):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        while not path.exists() or path.read_bytes().count(b"\n") < wanted:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert wanted - 1 <= len(read_outputs(path)) < len(queries)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert read_outputs(path) == whole
    ids = [json.loads(line).get("id") for line in path.read_text().splitlines()]
    assert len(ids) == len(set(ids)), "an answer was generated twice"
