# ruff: noqa: E501 (an answer stands on one line)
from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from unmask.instruct.examples import Category, Entity, IEExample, Relation
from unmask.instruct.hum import Hum
from unmask.instruct.hum_guidelines import (
    Rates,
    Scheme,
    Shot,
    collect_schemes,
    draw_guides,
    read_schemes,
    write_schemes,
)
from unmask.instruct.hum_mix import (
    NUM_COMPOUND,
    STRATEGY_COUNTS,
    TASK_COUNTS,
    draw_strategies,
    mix,
    statistics,
    task_quotas,
)
from unmask.instruct.hum_schema import Shown
from unmask.instruct.labels import LabelSet

# Shares that the paper prints, in percent.
PRINTED = {"NER": 23, "RE": 29, "SPO": 11, "EE": 5, "EET": 3, "EEA": 2, "OpenIE": 4, "KGE": 12, "MRC": 2, "TC": 1, "IG": 8}  # fmt: skip


def test_table_16_has_the_printed_shares_but_not_the_stated_total():
    total = sum(TASK_COUNTS.values())
    assert all(abs(100 * TASK_COUNTS[task] / total - PRINTED[task]) < 1 for task in PRINTED)
    assert sum(PRINTED.values()) == 100
    assert (total, 2_812_832 - total) == (2_808_206, 4_626)


def test_quotas_are_the_shares_and_add_up():
    quotas = task_quotas(1000)
    assert sum(quotas.values()) == 1000
    assert all(abs(quotas[task] / 10 - PRINTED[task]) < 1 for task in PRINTED)


def test_strategies_come_at_the_rates_of_the_paper():
    generator = random.Random(0)
    number = 40_000
    counts: Counter[str] = Counter()
    compound = 0
    for _ in range(number):
        drawn = draw_strategies(0.45, STRATEGY_COUNTS, generator)
        compound += bool(drawn)
        counts.update(drawn)
        assert len(set(drawn)) == len(drawn)
    assert compound / number == pytest.approx(0.45, abs=0.01)
    for name, published in STRATEGY_COUNTS.items():
        # A second strategy is more often one of the rare two, hence the margin.
        assert counts[name] / compound == pytest.approx(published / NUM_COMPOUND, abs=0.03)


def test_what_is_not_possible_is_not_drawn():
    generator = random.Random(0)
    assert draw_strategies(1.0, (), generator) == ()
    assert draw_strategies(1.0, {"rules"}, generator) == ("rules",)
    assert draw_strategies(0.0, STRATEGY_COUNTS, generator) == ()


def queries_of(number: int, **settings):
    system = Hum(use="NER,RE,TC", **settings)
    labels = LabelSet(("PER", "born in", "sport"), descriptions={"PER": "A human being."})
    items = (Entity("Bush", "PER"), Relation("Bush", "born in", "Texas"), Category("sport"))
    examples = [IEExample(f"e{index}@x", "Bush Texas", items=items) for index in range(number)]
    return list(system.render_all(examples, labels, train=True))


def test_a_mix_has_the_shares_and_says_what_was_short():
    queries = queries_of(40)
    chosen, short = mix(queries, 60, random.Random(0))
    wanted = task_quotas(60, {task: TASK_COUNTS[task] for task in ("NER", "RE", "TC")})
    assert Counter(query.task for query in chosen) == wanted
    assert short == {}
    assert len({query.id for query in chosen}) == 60
    chosen, short = mix(queries, 200, random.Random(0))
    assert short["RE"] == task_quotas(200, {t: TASK_COUNTS[t] for t in ("NER", "RE", "TC")})["RE"] - 40  # fmt: skip
    assert mix([], 10, random.Random(0)) == ([], {})


def test_statistics_count_what_was_synthesised():
    queries = queries_of(60)
    found = statistics(queries)
    assert found["num_queries"] == 180
    assert found["tasks"] == {"NER": 60, "RE": 60, "TC": 60}
    assert found["num_compound"] == sum("@" in query.id.split("#")[1] for query in queries)
    assert 0.2 < found["compound_share"] < 0.55
    assert found["strategies"]["formats"] == sum(found["forms"].values())
    assert found["num_collisions"] == 0
    assert statistics([])["compound_share"] == 0.0


def test_basic_instructions_alone_can_be_had():
    assert statistics(queries_of(5, compound=0.0))["num_compound"] == 0


def test_schemes_hold_five_of_each_with_the_most_frequent_first():
    texts = ["Bush"] * 3 + [f"X{index}" for index in range(12)]
    having = [IEExample(f"h{i}", f"{t} {i}", items=(Entity(t, "PER"),)) for i, t in enumerate(texts)]  # fmt: skip
    without = [IEExample(f"w{i}", f"w{i}", items=(Entity("x", "LOC"),)) for i in range(4)]
    bare = [IEExample(f"b{i}", f"b{i}") for i in range(4)]
    labels = LabelSet(("PER", "LOC"), descriptions={"PER": "A human being."})
    scheme = collect_schemes([*bare, *having, *without], labels, "NER")["person"]
    assert scheme.descriptions == ("A human being.",)
    assert [len(shots) for shots in (scheme.positives, scheme.negatives, scheme.candidates)] == [5, 5, 5]  # fmt: skip
    assert scheme.positives[0].values == ("Bush",)
    values = [shot.values for shot in scheme.positives + scheme.candidates]
    assert len(set(values)) == len(values)
    assert [shot.text[0] for shot in scheme.negatives] == ["w"] * 4 + ["b"]


def test_labels_without_a_description_are_described_by_what_they_name_most():
    texts = ["Blair", "Bush", "Bush", "Xu", "Xu", "Xu"]
    examples = [IEExample(f"e{i}", t, items=(Entity(t, "PER"),)) for i, t in enumerate(texts)]
    schemes = collect_schemes(examples, LabelSet(("PER", "LOC")), "NER")
    assert schemes["person"].descriptions == ("typical examples: Xu, Bush, Blair",)
    assert schemes["location"].descriptions == ()


def test_guidelines_come_from_the_training_split_alone_where_no_file_is_given():
    labels = LabelSet(("PER", "LOC"))
    train = [IEExample(f"t{i}", f"Bush {i}", items=(Entity("Bush", "PER"),)) for i in range(200)]
    bare = Hum(evaluate_with="description+example")
    system = bare.prepared(train, labels)
    found = statistics(list(system.render_all(train, labels, train=True)))
    assert found["strategies"]["guidelines"] / found["num_queries"] == pytest.approx(0.38, abs=0.1)
    (query,) = system.render(IEExample("v", "Bush 0", items=(Entity("Bush", "PER"),)), labels)
    asked = json.loads(query.prompt())
    assert asked["schema"][0] == {"entity_type": "person", "description": "typical examples: Bush"}
    inputs = [one["input"] for one in asked["example"]]
    assert inputs
    assert set(inputs) <= {one.text for one in train} - {"Bush 0"}
    assert Hum(schemes="none").prepared(train, labels)._schemes(labels) == {}


def test_schemes_survive_their_file(tmp_path):
    path = tmp_path / "schemes.json"
    scheme = Scheme(("a",), ("b",), (Shot("t", ({"subject": "x", "object": "y"},)),), (Shot("n"),), (), ("c",), {"r": "s"})  # fmt: skip
    write_schemes({"person": scheme}, path)
    assert read_schemes(str(path)) == {"person": scheme}
    assert read_schemes("") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold one JSON object"),
        ('{"a": 3}', "the scheme of 'a' must be"),
        ('{"a": {"positives": [1]}}', "the scheme of 'a' must be"),
    ],
)
def test_a_bad_file_of_schemes_is_named(tmp_path, content, message):
    path = tmp_path / "schemes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_schemes(str(path))
    with pytest.raises(FileNotFoundError, match="there is no file of schemes at"):
        read_schemes(str(tmp_path / "absent.json"))


def test_no_two_labels_are_ever_shown_alike():
    labels = [Shown(name, name) for name in ("job", "title", "role")]
    schemes = {name: Scheme(("title", "role", "job", "post"), ("What one does.",)) for name in ("job", "title", "role")}  # fmt: skip
    for seed in range(200):
        drawn = draw_guides(labels, schemes, Rates(0.5, 1.0, 0.5, 0.0), random.Random(seed))
        assert len({one.shown for one in drawn}) == 3
        hidden = [one for one in drawn if one.shown.startswith("label")]
        assert all(one.description for one in hidden)


def test_confusable_labels_are_always_among_the_wrong_ones(tmp_path):
    path = tmp_path / "schemes.json"
    write_schemes({"person": Scheme(confusable=("character",))}, path)
    labels = LabelSet(("PER", "character", *(f"x{index}" for index in range(40))))
    example = IEExample("s", "Bush", items=(Entity("Bush", "PER"),))
    for index in range(20):
        queries = Hum(schemes=str(path), compound=0.0).render(
            replace(example, id=f"s{index}"), labels, train=True
        )
        asked = [name for query in queries for name in json.loads(query.answer)]
        assert {"person", "character"} <= set(asked)
        assert len(asked) == 2 + 6
