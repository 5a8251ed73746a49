from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from unmask.backbones import load_causal_lm
from unmask.data.sentence import Sentence
from unmask.instruct.encoding import encode_prompt
from unmask.instruct.examples import example_from_sentence
from unmask.instruct.generation import StopAt, cut_at, generate_batch, generate_file, read_outputs
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import load_system
from unmask.instruct.system import Decoding

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


def test_a_batch_answers_as_each_query_alone(loaded):
    queries = queries_of(load_system("it"))
    prompts = [encode_prompt(query, loaded.tokenizer, 400) for query in queries]
    together = generate_batch(loaded.model, loaded.tokenizer, prompts, SHORT)
    alone = [generate_batch(loaded.model, loaded.tokenizer, [one], SHORT)[0] for one in prompts]
    assert together == alone
    assert any(together)


def test_greedy_answers_are_the_most_probable_tokens(loaded):
    (query, *_) = queries_of(load_system("it"))
    prompt = encode_prompt(query, loaded.tokenizer, 400)
    ids = list(prompt.token_ids)
    for _ in range(SHORT.max_new_tokens):
        with torch.no_grad():
            best = int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if best == loaded.tokenizer.eos_token_id:
            break
        ids.append(best)
    expected = loaded.tokenizer.decode(ids[len(prompt.token_ids) :])
    assert generate_batch(loaded.model, loaded.tokenizer, [prompt], SHORT) == [expected]


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


@pytest.mark.parametrize("name", ["it", "instructuie", "uniner"])
def test_constrained_answers_always_parse(loaded, tmp_path, name):
    system = load_system(name)
    queries = queries_of(system, 2)
    grammars = {query.id: system.grammar(query) for query in queries}
    free = run(loaded, queries, tmp_path / "free.jsonl")
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
    assert StopAt((";",), tiny_tokenizer, 0)(ids, None).tolist() == [True, False]
    assert StopAt((), tiny_tokenizer, 0)(ids, None).tolist() == [False, False]
    assert cut_at("ab;cd\nx", ("\n", ";")) == "ab"
    assert cut_at("ab", ("\n",)) == "ab"
