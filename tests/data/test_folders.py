from pathlib import Path

import pytest

from unmask.data.folders import find_parquet_splits, find_splits, split_of


def lay_out(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x O\n")
    return folder


def names_of(splits):
    return {split: [path.name for path in paths] for split, paths in splits.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("eng.train", "eng.testa", "eng.testb"), ("eng.train", "eng.testa", "eng.testb")),
        (("train.txt", "dev.txt", "test.txt"), ("train.txt", "dev.txt", "test.txt")),
        (("a-train.conll", "a-valid.conll", "a-test.conll"), None),
        (("en_ewt-ud-train.iob2", "en_ewt-ud-dev.iob2", "en_ewt-ud-test.iob2"), None),
        (("train.jsonl", "validation.jsonl", "test.jsonl"), None),
        (("Restaurants_Train_v2.xml", "devel.xml", "Restaurants_Test_Gold.xml"), None),
        (("train.spacy", "val.spacy", "test.spacy"), None),
        (("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), None),
    ],
)
def test_splits_are_found_by_name(tmp_path, names, expected):
    lay_out(tmp_path, *names, "README.md", "train.log", ".train.txt.swp", "labels.txt", "notes.txt")
    found = names_of(find_splits(tmp_path))
    assert found == {
        split: [name]
        for split, name in zip(("train", "validation", "test"), expected or names, strict=True)
    }


def test_missing_splits_are_left_out(tmp_path):
    assert set(find_splits(lay_out(tmp_path, "dev.iob2", "test.iob2"))) == {"validation", "test"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.txt", "train.conll"), "train.conll and train.txt could each be the train split"),
        (("dev.txt", "valid.txt"), "dev.txt and valid.txt could each be the validation split"),
        (("train/a.parquet", "train/b.parquet"), "a.parquet and b.parquet could each be the train"),
        (("a/train/0.parquet", "b/train/0.parquet"), r"several data sets \(a, b\); point to one"),
    ],
)
def test_ambiguity_is_an_error_naming_both(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        find_splits(lay_out(tmp_path, *names))


def test_name_of_two_splits_is_an_error():
    with pytest.raises(ValueError, match=r"'dev-test\.txt' speaks of test and validation; rename"):
        split_of("dev-test.txt")


def test_split_words_inside_other_words_do_not_count():
    assert [split_of(name) for name in ("constraints.txt", "latest.json", "devices.txt")] == [
        None
    ] * 3


def test_shards_of_parquet_are_one_split_in_order(tmp_path):
    lay_out(tmp_path, "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet")
    lay_out(tmp_path, "data/test-00000-of-00001.parquet")
    assert names_of(find_splits(tmp_path)) == {
        "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "test": ["test-00000-of-00001.parquet"],
    }


def test_parquet_splits_may_be_folders(tmp_path):
    lay_out(
        tmp_path, "ai/train/0000.parquet", "ai/train/0001.parquet", "ai/validation/0000.parquet"
    )
    assert names_of(find_parquet_splits(tmp_path)) == {
        "train": ["0000.parquet", "0001.parquet"],
        "validation": ["0000.parquet"],
    }


def test_folder_without_splits_is_an_error_that_says_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it holds a\.txt, b$"):
        find_splits(lay_out(tmp_path, "a.txt", "b/train.txt"))


def test_missing_folder_and_file_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give a folder"):
        find_splits(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"train\.txt is a file, not a folder"):
        find_splits(lay_out(tmp_path, "train.txt") / "train.txt")
