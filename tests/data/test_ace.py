import json

import pytest

from unmask.data.ace import read_ace
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions


def event(start, end, kind="Conflict:Attack"):
    return {"trigger": {"text": "", "start": start, "end": end}, "event_type": kind}


def sentence(num_words, *events):
    return {"words": [f"w{i}" for i in range(num_words)], "golden-event-mentions": list(events)}


@pytest.fixture
def read(tmp_path):
    def read_records(records):
        path = tmp_path / "train.json"
        path.write_text(records if isinstance(records, str) else json.dumps(records, indent=1))
        return read_ace(path, ReadOptions())

    return read_records


def test_trigger_ends_are_exclusive(read):
    reading = read([sentence(4, event(1, 3), event(3, 4, "Life:Die")), sentence(1)])
    assert reading.sentences == (
        Sentence(
            "train.json:2",
            ("w0", "w1", "w2", "w3"),
            ("O", "B-Conflict:Attack", "I-Conflict:Attack", "B-Life:Die"),
        ),
        Sentence(reading.sentences[1].id, ("w0",), ("O",)),
    )
    assert len(reading.notes) == 1


def test_later_trigger_replaces_the_earlier_whole_and_is_counted(read):
    reading = read([sentence(3, event(0, 3), event(1, 2, "Life:Die"), event(1, 2, "Life:Die"))])
    assert reading.sentences[0].tags == ("O", "B-Life:Die", "O")
    assert "train.json: 1 triggers replaced by a later one that overlaps them" in reading.notes
    assert "train.json: 1 triggers given more than once" in reading.notes


def test_one_object_a_line_is_read_too(read):
    lines = "\n".join(json.dumps(sentence(2, event(0, 1))) for _ in range(2))
    assert [s.id for s in read(lines).sentences] == ["train.json:1", "train.json:2"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (sentence(2, event(1, 3)), '"start" and "end" lie within 0 to 2, end exclusive'),
        (sentence(2, event(1, 1)), "lie within 0 to 2"),
        (sentence(2, {"event_type": "X"}), "an event needs"),
        (sentence(2, 7), "an event needs .* got 7"),
        ({"words": ["a"]}, "'golden-event-mentions' is not a list"),
        ({"words": "a", "golden-event-mentions": []}, '"words" is not a list of strings'),
    ],
)
def test_errors_name_the_line(read, record, message):
    with pytest.raises(ValueError, match=rf"train\.json:\d+: .*{message}"):
        read([sentence(1), record])
