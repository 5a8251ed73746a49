import json
import subprocess
import sys

import huggingface_hub.constants
import pyarrow
import pyarrow.parquet
import pytest

import unmask.data.tasks as tasks
from unmask.data.sentence import SPLITS
from unmask.data.tasks import TASKS, load_task

NAMED = [
    *("conll03_ner", "conll03_chunking", "rest14", "ace05", "wnut17"),
    *("crossner_ai", "crossner_literature", "crossner_music", "crossner_politics"),
    *("crossner_science", "uner_ewt", "lookright"),
]


def write_conll(folder, **splits):
    for split, sentences in splits.items():
        rows = ["\n".join(f"w{i}\t{tag}" for i, tag in enumerate(tags)) for tags in sentences]
        (folder / f"{split}.txt").write_text("\n\n".join(rows) + "\n")
    return folder


def test_every_promised_task_is_there_and_says_its_licence():
    assert list(TASKS) == NAMED
    for name, task in TASKS.items():
        assert task.name == name
        assert task.licence
        assert task.licence_page.startswith("https://")


def test_published_label_counts():
    counts = {name: len(task.labels) for name, task in TASKS.items() if task.labels}
    assert counts["conll03_ner"] == 4
    assert counts["conll03_chunking"] == 11
    assert counts["ace05"] == 33
    assert counts["rest14"] == 4
    assert [
        counts[f"crossner_{d}"] for d in ("ai", "literature", "music", "politics", "science")
    ] == [*(14, 12, 13, 9, 17)]


def test_integer_tags_of_conll03_mean_what_the_data_card_shows():
    # The card's first test sentence: "The European Commission said on Thursday it disagreed with
    # German advice ..." has chunk tags 11, 12, 12, 21 and ner tags 0, 3, 4, 0, ..., 7.
    chunks, names = TASKS["conll03_chunking"].integer_tags, TASKS["conll03_ner"].integer_tags
    assert chunks is not None
    assert names is not None
    assert [chunks[i] for i in (11, 12, 12, 21)] == ["B-NP", "I-NP", "I-NP", "B-VP"]
    assert [names[i] for i in (0, 3, 4, 0, 7)] == ["O", "B-ORG", "I-ORG", "O", "B-MISC"]


def test_both_conll03_tasks_read_their_own_column(tmp_path):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (tmp_path / name).write_text("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nacts VBZ I-VP O\n")
    names = load_task("conll03_ner", tmp_path)
    chunks = load_task("conll03_chunking", tmp_path)
    assert names.train[0].tags == ("B-ORG", "O")
    assert chunks.test[0].tags == ("B-NP", "B-VP")
    assert names.labels == ("LOC", "MISC", "ORG", "PER")
    assert names.licence == TASKS["conll03_ner"].licence
    assert (
        "CHECK THIS: train has 1 sentences, conll03_ner is known to have 14041; this is another "
        "version of the corpus, or part of it"
    ) in names.notes


def test_rest14_with_its_held_out_tenth(tmp_path):
    sentence = (
        "<sentence><text>good food {}</text><aspectTerms><aspectTerm term='food' "
        "polarity='positive' from='5' to='9'/></aspectTerms></sentence>"
    )
    for name in ("Restaurants_Train_v2.xml", "Restaurants_Test_Gold.xml"):
        body = "".join(sentence.format(i) for i in range(20))
        (tmp_path / name).write_text(f"<sentences>{body}</sentences>")
    corpus = load_task("rest14", tmp_path, validation_from="train:0.1")
    assert [len(corpus.split(split)) for split in SPLITS] == [18, 2, 20]
    assert corpus.train[0].tags == ("O", "B-positive", "O")


def test_ace05_from_its_json(tmp_path):
    mention = {"trigger": {"start": 1, "end": 2}, "event_type": "Life:Die"}
    record = {"words": ["He", "died"], "golden-event-mentions": [mention]}
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps([record]))
    assert load_task("ace05", tmp_path).test[0].tags == ("O", "B-Life:Die")


def test_uner_trains_on_dev_when_told_so(tmp_path):
    write_conll(tmp_path, dev=[["B-PER"], ["O"], ["B-LOC"]], test=[["O"]])
    with pytest.raises(ValueError, match="uner_ewt has no train split; add its file, or say which"):
        load_task("uner_ewt", tmp_path)
    corpus = load_task("uner_ewt", tmp_path, train_from="dev", validation_from="train:1")
    assert [s.id for s in corpus.train] == ["dev.txt:1", "dev.txt:3"]
    assert [s.id for s in corpus.validation] == ["dev.txt:5"]


def test_own_files_under_a_name_of_ones_own(tmp_path):
    corpus = load_task("mine", write_conll(tmp_path, train=[["B-anything"], ["O"]]))
    assert (corpus.name, corpus.labels, corpus.licence) == ("mine", ("anything",), "unknown")
    assert corpus.notes[-2:] == (
        "there is no validation split: hold one out with --validation-from train:0.1 before "
        "choosing by it",
        "there is no test split: nothing can be scored on it",
    )


def test_train_is_limited_after_holding_out(tmp_path):
    write_conll(tmp_path, train=[["O"]] * 10, test=[["O"]])
    corpus = load_task("mine", tmp_path, validation_from="train:4", limit_train=2)
    assert (len(corpus.train), len(corpus.validation)) == (2, 4)
    assert "train: only the first 2 of 6 sentences, as asked" in corpus.notes


def test_validation_is_limited_to_its_first_sentences_with_a_note(tmp_path):
    write_conll(tmp_path, train=[["O"]] * 3, dev=[["B-X"], ["O"], ["O"]], test=[["O"]])
    corpus = load_task("mine", tmp_path, limit_validation=2)
    assert [sentence.tags for sentence in corpus.validation] == [("B-X",), ("O",)]
    assert "validation: only the first 2 of 3 sentences, as asked" in corpus.notes


def test_sentences_of_an_earlier_split_are_counted(tmp_path):
    write_conll(tmp_path, train=["OO", "OOO"], dev=["OO", "O"], test=["O", ["O", "B-X"], "OOOO"])
    notes = load_task("mine", tmp_path).notes
    advice = "so scores may flatter; `unmask check-data` lists them"
    assert notes[-2:] == (
        f"validation: 1 of 2 sentences also occur in an earlier split, {advice}",
        f"test: 2 of 3 sentences also occur in an earlier split, {advice}",
    )
    limited = load_task("mine", tmp_path, limit_train=1, limit_validation=1).notes
    # The "O" of test is in the part of validation that was left out.
    assert limited[-2:] == (
        f"validation: 1 of 1 sentences also occur in an earlier split, {advice}",
        f"test: 1 of 3 sentences also occur in an earlier split, {advice}",
    )


def test_the_generated_task_takes_no_files(tmp_path):
    write_conll(tmp_path, train=["OO"])
    with pytest.raises(ValueError, match="task lookright is generated and reads no files: give"):
        load_task("lookright", tmp_path)


def test_repair_and_column_reach_the_reader(tmp_path):
    (tmp_path / "train.txt").write_text("a I-Y B-X\nb O I-X\nc I-Y I-Z\nd B-Y O\n")
    assert load_task("mine", tmp_path, repair=True).train[0].tags == ("B-X", "I-X", "B-Z", "O")
    assert load_task("mine", tmp_path).train[0].tags == ("B-X", "I-X", "I-Z", "O")
    assert load_task("mine", tmp_path, column=1).train[0].tags == ("B-Y", "O", "B-Y", "B-Y")


def test_label_the_task_does_not_have_is_an_error_with_its_place(tmp_path):
    write_conll(tmp_path, train=[["O"], ["O", "B-DATE"]], dev=[["B-PER"]])
    with pytest.raises(ValueError, match=r"train\.txt:3, word 2: label 'DATE' is not one of task"):
        load_task("uner_ewt", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conll03_nre", "unknown task 'conll03_nre'; did you mean conll03_ner"),
        ("xyz", "unknown task 'xyz'; known are conll03_ner, conll03_chunking, rest14"),
    ],
)
def test_unknown_task_lists_the_known_and_the_close(name, message):
    with pytest.raises(ValueError, match=message):
        load_task(name)


@pytest.mark.parametrize("name", ["rest14", "ace05"])
def test_task_that_nobody_may_pass_on_names_its_licence_page(name):
    with pytest.raises(
        FileNotFoundError, match=r"cannot be downloaded: .* with --data-dir DIR"
    ) as e:
        load_task(name)
    assert TASKS[name].licence_page in str(e.value)


def test_without_network_the_error_is_the_command_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError) as caught:
        load_task("conll03_ner")
    message = str(caught.value)
    assert (
        "run `hf download lhoestq/conll2003 --repo-type dataset --revision refs/convert/parquet`"
        in message
    )
    assert "--data-dir DIR" in message
    assert "https://www.clips.uantwerpen.be/conll2003/ner/" in message
    assert "\n" not in message


def test_hub_tables_without_names_use_the_customary_order(monkeypatch, tmp_path):
    table = pyarrow.table(
        {"tokens": [["EU", "acts"]], "ner_tags": [[3, 0]], "chunk_tags": [[11, 21]]}
    )
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        pyarrow.parquet.write_table(table, tmp_path / split / "0000.parquet")
    monkeypatch.setattr(tasks, "download_dataset", lambda *_: (tmp_path, "c0ffee"))
    corpus = load_task("conll03_ner")
    assert corpus.train[0].tags == ("B-ORG", "O")
    assert corpus.train[0].id == "lhoestq/conll2003/train:1"
    assert corpus.notes[0] == "lhoestq/conll2003: read at refs/convert/parquet, commit c0ffee"
    assert load_task("conll03_chunking").test[0].tags == ("B-NP", "B-VP")


def test_lookright_is_generated():
    corpus = load_task("lookright", limit_train=30)
    assert len(corpus.train) == 30
    assert corpus.validation
    assert corpus.test


def test_loading_code_imports_nothing_heavy():
    code = (
        "import sys, unmask.data.tasks, unmask.data.checks; "
        "print([m for m in ('torch', 'spacy', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
