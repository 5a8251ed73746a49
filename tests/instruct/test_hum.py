# ruff: noqa: E501 (a prompt and its answer stand on one line each)
from __future__ import annotations

import json
from dataclasses import replace

import pytest

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
)
from unmask.instruct.hum import Hum
from unmask.instruct.hum_guidelines import Scheme, Shot, write_schemes
from unmask.instruct.hum_mix import strategies_of
from unmask.instruct.hum_rules import Sample, synthesise_rules
from unmask.instruct.hum_wordings import CHINESE, ENGLISH, load_wordings
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import load_system

MOVIE = IEExample(
    "m",
    "please show me a documentary featuring jessica lange from the 2010 s",
    items=(Entity("2010 s", "year"), Entity("jessica lange", "actor")),
)
CAPITAL = IEExample("r", "At a meeting in Montevideo , Uruguay", items=(Relation("Uruguay", "country of capital", "Montevideo"),))  # fmt: skip
DISEASE = IEExample(
    "d",
    "The characteristics of schistosomiasis include jaundice and mucosal ulcers.",
    items=tuple(
        Relation("schistosomiasis", "related (caused by)", tail, "disease", "disease")
        for tail in ("jaundice", "mucosal ulcers")
    ),
)
HACK = IEExample(
    "h",
    "a computer hack on Friday",
    items=(Event("data breach", "hack", (Argument("victim", "computer"), Argument("time", "Friday"))),),
)  # fmt: skip
DRUG = IEExample(
    "o",
    "Fixed drug eruption ... with omeprazole.",
    items=(
        Event("adverse event", "associated", (Argument("Effect", "Fixed drug eruption"), Argument("Treatment.Drug", "omeprazole"), Argument("Treatment.Drug", "drug"))),
    ),
)  # fmt: skip
LEGO = IEExample(
    "l",
    "Lorne Balfe scored for The Lego Batman Movie",
    items=(Relation("The Lego Batman Movie", "composer", "Lorne Balfe", "Works"),),
)
WHO = IEExample("q", "Megatron: The leader.", items=(Answer("Megatron", "Who leads?"),))
PLAN = IEExample("c", "W: A diary?", items=(Answer("semester plan", "What?", ("diary", "semester plan")),))  # fmt: skip
LOTTERY = IEExample("t", "48 yuan wins", items=(Category("lottery"),))
HACK_LABELS = LabelSet(
    ("data breach", "ransom"),
    roles={"data breach": ("place", "victim", "time"), "ransom": ("victim",)},
)

# (task, example, labels, the rest of the instruction, the answer)
VECTORS = [
    (
        "NER",
        MOVIE,
        LabelSet(("average ratings", "year", "actor")),
        {"schema": ["average ratings", "year", "actor"]},
        {"average ratings": [], "year": ["2010 s"], "actor": ["jessica lange"]},
    ),
    (
        "RE",
        CAPITAL,
        LabelSet(("country of capital", "children")),
        {"schema": ["country of capital", "children"]},
        {"country of capital": [{"subject": "Uruguay", "object": "Montevideo"}], "children": []},
    ),
    (
        "SPO",
        DISEASE,
        LabelSet(("related (caused by)",)),
        {"schema": [{"subject_type": "disease", "predicate": "related (caused by)", "object_type": "disease"}]},
        {"related (caused by)": [{"subject": "schistosomiasis", "object": tail} for tail in ("jaundice", "mucosal ulcers")]},
    ),
    (
        "EE",
        HACK,
        HACK_LABELS,
        {"schema": [
            {"event_type": "data breach", "trigger": True, "arguments": ["place", "victim", "time"]},
            {"event_type": "ransom", "trigger": True, "arguments": ["victim"]},
        ]},
        {"data breach": [{"trigger": "hack", "arguments": {"place": "NAN", "victim": "computer", "time": "Friday"}}], "ransom": []},
    ),
    (
        "EET",
        HACK,
        HACK_LABELS,
        {"schema": ["data breach", "ransom"]},
        {"data breach": ["hack"], "ransom": []},
    ),
    (
        "EEA",
        DRUG,
        LabelSet(("adverse event", "other"), roles={"adverse event": ("Dosage", "Treatment.Drug", "Effect")}),
        {"schema": [{"event_type": "adverse event", "arguments": ["Dosage", "Treatment.Drug", "Effect"]}]},
        {"adverse event": [{"Dosage": "NAN", "Treatment.Drug": ["omeprazole", "drug"], "Effect": "Fixed drug eruption"}]},
    ),
    (
        "KGE",
        LEGO,
        LabelSet(("Works",), {"Works": "Works"}, roles={"Works": ("achievement", "composer")}),
        {"schema": [{"entity_type": "Works", "attributes": ["achievement", "composer"]}]},
        {"Works": {"The Lego Batman Movie": {"composer": "Lorne Balfe"}}},
    ),
    ("TC", LOTTERY, LabelSet(("sports", "lottery")), {"schema": ["sports", "lottery"]}, {"type": "lottery"}),
]  # fmt: skip


@pytest.fixture
def plain(tmp_path):
    """A file whose sentences are one letter each, so that the rest of a prompt can be read."""
    path = tmp_path / "sentences.json"
    path.write_text(json.dumps({"en": dict.fromkeys(("NER", "RE", "SPO", "EE", "EET", "EEA", "KGE", "TC", "MRC", "MRC-choice", "OpenIE"), "I")}))  # fmt: skip
    return str(path)


@pytest.mark.parametrize(("task", "example", "labels", "rest", "answer"), VECTORS)
def test_the_tasks_of_the_appendix_are_asked_and_answered(
    plain, task, example, labels, rest, answer
):
    system = Hum(use=task, instructions=plain, collisions="raise")
    (query,) = system.render(example, labels)
    asked = {"instruction": "I", **rest, "input": example.text}
    assert query.prompt() == json.dumps(asked, ensure_ascii=False)
    assert query.answer == json.dumps(answer, ensure_ascii=False)
    assert system.parse(query.answer, query).status == "ok"
    (score,) = system.evaluate([(query, query.answer)])["tasks"].values()
    assert score.get("f1", score.get("accuracy")) == 1.0


def test_questions_are_asked_with_and_without_choices(plain):
    system = Hum(use="MRC", instructions=plain, collisions="raise")
    (query,) = system.render(WHO, LabelSet(()))
    assert query.prompt() == (
        '{"instruction": "I", "input": "Megatron: The leader.", "question": "Who leads?"}'
    )
    assert query.answer == '{"answer": "Megatron"}'
    (query,) = system.render(PLAN, LabelSet(()))
    assert query.prompt().endswith('"question": "What?", "choice": ["diary", "semester plan"]}')
    assert query.answer == "semester plan"
    (query,) = system.render(replace(WHO, items=(Answer("", "Why?"),)), LabelSet(()))
    assert (query.answer, query.items) == ('{"answer": "Not mentioned"}', ())
    assert system.parse(query.answer, query).status == "empty"


def test_open_statements_are_lines_of_named_parts(plain):
    statement = (Argument("subject", 'Defoe "D"'), Argument("predicate", "'s"), Argument("time", "1709"))  # fmt: skip
    example = IEExample("o", "x", items=(Event("", None, statement), Relation("a", "is", "b")))
    system = Hum(use="OpenIE", instructions=plain, collisions="raise")
    (query,) = system.render(example, LabelSet(()))
    assert query.prompt() == "I\nInput:x"
    assert query.answer == (
        '("Defoe \\"D\\"":[subject], "\'s":[predicate], "1709":[time])\n'
        '("a":[subject], "is":[predicate], "b":[object])'
    )
    spaced = '("Defoe" : [subject], "\'s":[predicate]) \n ("A":[subject])'
    assert len(system.parse(spaced, query).items) == 2
    assert system.parse("", query).status == "empty"
    assert system.parse("none", query).status == "malformed"
    assert system.parse('("a":[subject]) ("b', query).status == "partial"


def test_general_instructions_keep_their_form():
    system = Hum(use="IG", collisions="raise")
    (query,) = system.render(IEExample("i", "2, 3", items=(Answer("5", "Add."),)), LabelSet(()))
    assert (query.prompt(), query.answer) == ("Add.\n2, 3", "5")
    (query,) = system.render(IEExample("i", "", items=(Answer("Hi", "Greet."),)), LabelSet(()))
    assert query.prompt() == "Greet."


def test_chinese_texts_are_asked_in_chinese_unescaped():
    (query,) = Hum().render(IEExample("z", "他在北京", lang="zh"), LabelSet(("人物",)))
    assert json.loads(query.prompt())["instruction"] == CHINESE["NER"]
    assert "人物" in query.prompt()


def test_both_languages_have_every_sentence():
    assert set(CHINESE) == set(ENGLISH)


def test_labels_come_in_batches_whose_small_rest_joins_the_last():
    def sizes(number):
        return [len(q.labels) for q in Hum().render(MOVIE, LabelSet(tuple(f"x{i}" for i in range(number))))]  # fmt: skip

    assert sizes(4) == [6]  # two labels of the text are added
    assert sizes(10) == [6, 6]
    assert sizes(12) == [6, 8]
    assert sizes(13) == [6, 6, 3]


def test_masked_names_stand_in_schema_and_answer_alike():
    labels = LabelSet(("year", "actor"), descriptions={"year": "When.", "actor": "Who plays."})
    system = Hum(compound=1.0, description_rate=1.0, mask_rate=1.0, example_rate=0.0)
    (query,) = system.render(MOVIE, labels, train=True)
    shown = [entry["entity_type"] for entry in json.loads(query.prompt())["schema"]]
    assert all(name.startswith("label") for name in shown)
    assert list(json.loads(query.answer)) == shown == list(query.labels)
    entities = [item for item in query.items if isinstance(item, Entity)]
    assert {item.text for item in entities} == {"2010 s", "jessica lange"}
    assert {item.type for item in entities} == set(shown)
    assert strategies_of(query) == ("guidelines",)


def test_without_guidelines_nothing_is_called_compound():
    (query,) = Hum(compound=1.0, example_rate=0.0).render(CAPITAL, LabelSet(("x",)), train=True)
    assert strategies_of(query) in ((), ("formats",))


def test_variants_and_examples_come_from_the_schemes(tmp_path):
    path = tmp_path / "schemes.json"
    shots = (Shot("in 1999", ("1999",)), Shot(MOVIE.text, ("2010 s",)))
    write_schemes({"year": Scheme(("date",), (), shots, (Shot("no time"),))}, path)
    system = Hum(schemes=str(path), compound=1.0, variant_rate=1.0, example_rate=1.0)
    labels = LabelSet(("year",))
    queries = [
        query
        for index in range(20)
        for query in system.render(replace(MOVIE, id=f"m{index}"), labels, train=True)
    ]
    guided = [query for query in queries if strategies_of(query) == ("guidelines",)]
    assert guided
    for query in guided:
        asked = json.loads(query.prompt())
        assert "date" in asked["schema"]
        examples = [one for one in asked["example"] if "date" in one["output"]]
        assert sorted(one["input"] for one in examples) == ["in 1999", "no time"]
        assert MOVIE.text not in [one["input"] for one in asked["example"]]


def test_evaluation_shows_the_first_of_everything_and_hides_nothing(tmp_path):
    path = tmp_path / "schemes.json"
    scheme = Scheme(("date",), ("When.", "A year."), (Shot("in 1999", ("1999",)),))
    write_schemes({"year": scheme}, path)
    labels = LabelSet(("year", "actor"))
    (query,) = Hum(schemes=str(path), evaluate_with="description+example").render(MOVIE, labels)
    asked = json.loads(query.prompt())
    assert asked["schema"] == [
        {"entity_type": "year", "description": "When."},
        {"entity_type": "actor"},
    ]
    assert asked["example"] == [{"input": "in 1999", "output": {"year": ["1999"]}}]
    (query,) = Hum(schemes=str(path)).render(MOVIE, labels)
    assert "example" not in json.loads(query.prompt())


def test_a_rule_makes_two_instructions_with_two_answers(tmp_path):
    path = tmp_path / "rules.jsonl"
    answer = (
        'Schema Description: Money.\nOriginal Rule: With signs.\nNew Rule: Without.\n'
        'New Label: ["194,000"]'
    )  # fmt: skip
    text = "Average income was $ 194,000 ."
    synthesise_rules([Sample(text, "money", ("$ 194,000",))], lambda _: answer, path)
    example = IEExample("a", text, items=(Entity("$ 194,000", "money"),))
    found = set()
    for index in range(200):
        system = Hum(rules=str(path), compound=1.0, seed=index)
        queries = system.render(example, LabelSet(("money",)), train=True)
        if len(queries) == 2 and "formats" not in strategies_of(queries[0]):
            found |= {
                (json.loads(query.prompt())["schema"][0]["rule"], query.answer) for query in queries
            }
    assert found == {
        ("With signs.", '{"money": ["$ 194,000"]}'),
        ("Without.", '{"money": ["194,000"]}'),
    }


@pytest.mark.parametrize("task", ["NER", "RE", "SPO", "EE", "EET", "EEA", "KGE", "TC"])
def test_whatever_is_synthesised_reads_back(tmp_path, task):
    example = IEExample(
        "e",
        "Bush attacked Iraq",
        items=(
            Entity("Bush", "PER"),
            Relation("Bush", "born in", "Iraq"),
            Event("attack", "attacked", (Argument("place", "Iraq"), Argument("place", "Texas"))),
            Category("politics"),
        ),
    )
    labels = LabelSet(
        ("PER", "born in", "attack", "politics", "x1", "x2"),
        descriptions={"PER": "A human.", "attack": "Violence.", "born in": "Birth."},
        roles={"attack": ("place", "time")},
    )
    for seed in range(60):
        system = Hum(use=task, seed=seed, compound=1.0, collisions="raise")
        queries = system.render(example, labels, train=True)
        assert len({query.id for query in queries}) == len(queries)
        for query in queries:
            assert query.id.startswith("e#")
            assert system.parse(query.answer, query).status in ("ok", "empty"), query.answer


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"use": "NER,POS"}, r"unknown tasks \['POS'\]"),
        ({"compound": 1.5}, "compound must be between 0 and 1, got 1.5"),
        ({"evaluate_with": "all"}, "evaluate_with must be one of"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        load_system("hum", **wrong)


@pytest.mark.parametrize("content", ['{"de": {}}', '{"en": {"POS": "x"}}', "[]"])
def test_a_file_of_sentences_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "sentences.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"sentences\.json must map en or zh to instructions"):
        load_wordings(str(path))


def test_missing_and_broken_files_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        load_wordings(str(tmp_path / "broken.json"))
    with pytest.raises(FileNotFoundError, match="there is no file of instructions at"):
        load_wordings(str(tmp_path / "absent.json"))
    with pytest.raises(FileNotFoundError, match="there is no file of preference rules at"):
        Hum(rules=str(tmp_path / "absent")).render(MOVIE, LabelSet(("year",)), train=True)
