from __future__ import annotations

import json

import pytest

from unmask.data.label_studio import read_label_studio, write_label_studio
from unmask.data.readers import detect_format, read_corpus, read_file
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions


def region(start, end, text, *labels, kind="labels"):
    value = {"start": start, "end": end, "text": text, "labels": list(labels)}
    return {"id": "r", "from_name": "label", "to_name": "text", "type": kind, "value": value}


def task(text, *regions, **annotation):
    return {"id": 1, "data": {"text": text}, "annotations": [{"result": [*regions], **annotation}]}


def read(tmp_path, *tasks):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(tasks, indent=1), encoding="utf-8")
    return read_label_studio(path, ReadOptions())


def test_regions_become_tags(tmp_path):
    (sentence,) = read(tmp_path, task("Ada met Bob.", region(8, 11, "Bob", "PER"))).sentences
    assert sentence.words == ("Ada", "met", "Bob", ".")
    assert sentence.tags == ("O", "O", "B-PER", "O")
    assert sentence.id == "train.json:2"


def test_offsets_of_a_browser_are_found_by_the_regions_own_text(tmp_path):
    text = "🙂🙂 Ada"
    (sentence,) = read(tmp_path, task(text, region(5, 8, "Ada", "PER"))).sentences
    assert sentence.tags[-1] == "B-PER"
    (same,) = read(tmp_path, task(text, region(3, 6, "Ada", "PER"))).sentences
    assert same.tags == sentence.tags


def test_white_space_at_the_ends_of_a_region_is_not_part_of_it(tmp_path):
    (sentence,) = read(tmp_path, task("so Ada met", region(2, 7, " Ada ", "PER"))).sentences
    assert sentence.tags == ("O", "B-PER", "O")


def test_the_short_export_is_read_too(tmp_path):
    short = {"id": 1, "text": "Ada ran", "label": [{"start": 0, "end": 3, "labels": ["PER"]}]}
    (sentence,) = read(tmp_path, short).sentences
    assert sentence.tags == ("B-PER", "O")


def test_what_is_left_out_is_counted(tmp_path):
    choice = region(0, 1, "A", "yes", kind="choices")
    two = task("Ada", region(0, 3, "Ada", "PER"), choice)
    two["annotations"].append({"result": []})
    unfinished = task("Bob", was_cancelled=True)
    notes = "\n".join(read(tmp_path, two, unfinished, task(" ")).notes)
    assert "1 tasks without a finished annotation left out" in notes
    assert "1 further annotations of a task left out" in notes
    assert "1 regions that are no labels left out" in notes
    assert "1 tasks without words left out" in notes


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"data": {"n": 3}, "annotations": [{"result": []}]}, 'needs one text under "data"'),
        (task("Ada", region("0", 3, "Ada", "PER")), 'needs whole numbers "start" and "end"'),
        (task("Ada", region(0, 3, "Ada", "A", "B")), 'and one label in "labels"'),
        (task("Ada", region(0, 3, "Bob", "PER")), "the region 'Bob' does not stand at 0 to 3"),
        (task("Ada", region(0, 2, "Ad", "PER")), "does not begin and end where words do"),
    ],
)
def test_a_task_that_cannot_be_read_is_refused_with_its_line(tmp_path, bad, message):
    with pytest.raises(ValueError, match=rf"train\.json:2: .*{message}"):
        read(tmp_path, bad)


@pytest.mark.parametrize("version", [None, "tiny 0110"])
def test_what_is_written_is_what_label_studio_imports_and_reads_back(tmp_path, version):
    sentence = Sentence("s1", ("🙂", "Ada", "Lovelace", "ran"), ("O", "B-PER", "I-PER", "O"))
    path = tmp_path / "test.json"
    write_label_studio([sentence], path, version)
    (written,) = json.loads(path.read_text(encoding="utf-8"))
    (result,) = written["annotations" if version is None else "predictions"]
    (found,) = result["result"]
    assert found["value"] == {"start": 3, "end": 15, "text": "Ada Lovelace", "labels": ["PER"]}
    assert found["type"] == "labels"
    if version is None:
        assert detect_format(path) == "label_studio"
        (back,) = read_file(path).sentences
        assert (back.words, back.tags) == (sentence.words, sentence.tags)
    else:
        assert result["model_version"] == version


def test_an_export_is_told_from_other_json_arrays(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('[{"tokens": ["a"], "ner_tags": ["O"]}]')
    assert detect_format(path) == "json"
    path.write_text(json.dumps([task("Ada", region(0, 3, "Ada", "PER"))]))
    assert read_corpus(tmp_path, "mine").labels == ("PER",)
