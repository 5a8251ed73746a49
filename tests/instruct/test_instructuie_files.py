from __future__ import annotations

import json

import pytest

from unmask.instruct.examples import Argument, Entity, Event, IEExample, Relation
from unmask.instruct.instructuie import InstructUIE
from unmask.instruct.instructuie_files import complete_splits, read_collection, read_folder
from unmask.instruct.sources import SourceSettings, load_source

NER = {
    "sentence": "New York won .",
    "entities": [
        {"name": "New York", "type": "LOC", "pos": [0, 8]},
        {"name": "ork", "type": "X", "pos": [5, 8]},
    ],
}
RE = {
    "sentence": "Bush won .",
    "relations": [
        {"head": {"name": "Bush", "type": "PER", "pos": [0, 4]}, "type": "r", "tail": {"name": "."}}
    ],
}
EE = {
    "sentence": "Bush won .",
    "events": [{"type": "win", "trigger": "won", "arguments": [{"name": "Bush", "role": "who"}]}],
}


def folder_of(tmp_path, labels, **splits):
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    for name, records in splits.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return tmp_path


def test_entities_keep_word_positions_where_they_fit_words(tmp_path):
    folder = read_folder(folder_of(tmp_path, ["LOC", "X", "NA"], train=[NER], dev=[]))
    (example,) = folder.splits["train"]
    assert repr(example.items) == repr((Entity("New York", "LOC", 0, 2), Entity("ork", "X")))
    assert (folder.labels.names, set(folder.splits)) == (("LOC", "X"), {"train", "validation"})


def test_relations_and_events_are_read(tmp_path):
    folder = read_folder(folder_of(tmp_path, [["win"], ["who"]], train=[RE], test=[EE]))
    assert folder.splits["train"][0].items == (Relation("Bush", "r", "."),)
    assert folder.splits["test"][0].items == (Event("win", "won", (Argument("who", "Bush"),)),)
    assert folder.labels.roles == {"win": ("who",)}


def test_roles_may_stand_by_type(tmp_path):
    folder = read_folder(folder_of(tmp_path, {"win": ["who"], "lose": []}, train=[EE]))
    assert folder.labels.roles == {"win": ("who",), "lose": ()}


def test_missing_splits_are_made_as_the_paper_makes_them():
    examples = tuple(IEExample(str(i), "x") for i in range(20))
    made = complete_splits({"train": examples})
    assert [len(made[split]) for split in ("train", "validation", "test")] == [16, 2, 2]
    assert {one for split in made.values() for one in split} == set(examples)
    halved = complete_splits({"train": examples, "validation": examples[:4]})
    assert (halved["validation"], halved["test"]) == (examples[:2], examples[2:4])
    assert complete_splits(halved) is halved


@pytest.mark.parametrize(
    ("labels", "train", "message"),
    [
        (3, [], "must hold a list of labels"),
        (["a"], {}, "holds no JSON array"),
        (["a"], [{}], "record 0: expected a sentence"),
        (["a"], [{"sentence": "x", "entities": [{}]}], "record 0: expected a sentence"),
    ],
)
def test_other_forms_are_named(tmp_path, labels, train, message):
    with pytest.raises(ValueError, match=message):
        read_folder(folder_of(tmp_path, labels, train=train))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no labels\.json"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds none of train\.json"):
        read_folder(folder_of(tmp_path, ["a"]))


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ValueError, match=r"labels\.json is not JSON"):
        read_folder(tmp_path)


@pytest.fixture
def collection(tmp_path):
    for name, labels, record in (
        ("NER/news", ["LOC", "X"], NER),
        ("NER/law", ["PER"], {**NER, "entities": []}),
        ("RE/news", ["r"], RE),
        ("EE/war", [["win"], ["who"]], EE),
        ("Other/x", ["y"], NER),
    ):
        (tmp_path / name).mkdir(parents=True)
        folder_of(tmp_path / name, labels, train=[record] * 4, dev=[record] * 2, test=[record])
    return tmp_path


def test_a_collection_asks_every_data_set_about_its_own_labels(collection):
    source = load_source(SourceSettings(data_dir=collection, limit_train=3))
    assert [(part.task, part.labels.names) for part in source.parts] == [
        ("EE", ("win",)),
        ("NER", ("PER",)),
        ("NER", ("LOC", "X")),
        ("RE", ("r",)),
    ]
    assert [len(source.splits[split]) for split in ("train", "validation", "test")] == [12, 8, 4]
    system = InstructUIE(use="NER,ES,RE,EE")
    asked = {}
    for part in source.parts:
        asking = system.for_folder(part.task)
        assert asking is not None
        for query in asking.render_all(part.splits["test"], part.labels):
            asked[query.id] = (query.task, query.labels)
    assert asked == {
        "EE/war/test/0#EE": ("EE", ("win",)),
        "NER/law/test/0#NER": ("NER", ("person",)),
        "NER/law/test/0#ES": ("ES", ("person",)),
        "NER/news/test/0#NER": ("NER", ("location", "x")),
        "NER/news/test/0#ES": ("ES", ("location", "x")),
        "RE/news/test/0#RE": ("RE", ("r",)),
    }
    assert InstructUIE(use="RE").for_folder("NER") is None


def test_the_released_score_of_a_collection_is_the_mean_over_its_data_sets(collection):
    source = load_source(SourceSettings(data_dir=collection))
    system = InstructUIE(mode="official")
    queries = [
        query
        for part in source.parts
        if part.task == "NER"
        for query in system.render_all(part.splits["test"], part.labels)
    ]
    pairs = [(query, " None") for query in queries]
    scores = system.evaluate(pairs)
    assert {name: one["f1"] for name, one in scores["tasks"]["NER"]["datasets"].items()} == {
        "law": 1.0,
        "news": 0.0,
    }
    assert scores["f1"] == 0.5


def test_a_root_without_a_data_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no data set; expected .*/NER/NAME/labels"):
        read_collection(tmp_path)
