import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import huggingface_hub.constants
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from unmask.data.hub import download_dataset, read_parquet, read_saved_dataset
from unmask.data.readers import read_corpus
from unmask.data.source import ReadOptions, Source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS = {
    "id": ["0", "1", "2", "3"],
    "tokens": [["Ann", "Lee", "left"], ["-DOCSTART-"], [], ["Rome"]],
    "ner_tags": [[1, 2, 0], [0], [], [3]],
}
EXPECTED = [(("Ann", "Lee", "left"), ("B-PER", "I-PER", "O")), (("Rome",), ("B-LOC",))]


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


def with_class_labels():
    tags = List(ClassLabel(names=NAMES))
    features = Features({"id": Value("string"), "tokens": List(Value("string")), "ner_tags": tags})
    return Dataset.from_dict(ROWS, features=features)


def contents(sentences):
    return [(sentence.words, sentence.tags) for sentence in sentences]


def test_saved_folders_carry_their_class_labels(tmp_path):
    DatasetDict({"train": with_class_labels(), "dev": with_class_labels()}).save_to_disk(
        str(tmp_path)
    )
    corpus = read_corpus(tmp_path, "mine")
    assert contents(corpus.train) == contents(corpus.validation) == EXPECTED
    assert corpus.labels == ("LOC", "PER")
    assert [sentence.id for sentence in corpus.train] == ["train:1", "train:4"]
    assert "train: left out 2 empty or -DOCSTART- rows" in corpus.notes


def test_single_saved_data_set_is_the_train_split(tmp_path):
    with_class_labels().save_to_disk(str(tmp_path / "mine"))
    assert contents(read_corpus(tmp_path / "mine", "mine").train) == EXPECTED


def test_parquet_carries_its_class_labels(tmp_path):
    (tmp_path / "train").mkdir()
    for shard in ("0000", "0001"):
        with_class_labels().to_parquet(str(tmp_path / "train" / f"{shard}.parquet"))
    corpus = read_corpus(tmp_path, "mine")
    assert contents(corpus.train) == EXPECTED * 2
    assert [sentence.id for sentence in corpus.train] == [f"train:{row}" for row in (1, 4, 5, 8)]


def test_plain_parquet_with_string_tags(tmp_path):
    table = pyarrow.table({"words": [["a", "b"]], "tags": [["I-X", "B-X"]]})
    path = tmp_path / "test.parquet"
    pyarrow.parquet.write_table(table, path)
    reading = read_parquet([path], Source.of(path), ReadOptions())
    assert contents(reading.sentences) == [(("a", "b"), ("B-X", "B-X"))]


def test_integers_without_names_need_them_from_the_caller(tmp_path):
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"tokens": [["a"]], "ner_tags": [[3]]}), path)
    with pytest.raises(ValueError, match=r"train\.parquet:1: tag 3 is a number without a name"):
        read_parquet([path], Source.of(path), ReadOptions())
    options = ReadOptions(tag_names=tuple(NAMES))
    assert read_parquet([path], Source.of(path), options).sentences[0].tags == ("B-LOC",)


def test_column_of_tags_is_chosen_by_name(tmp_path):
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"tokens": [["a"]], "ner_tags": [["O"]], "aspect": [["B-Y"]]})
    pyarrow.parquet.write_table(table, path)
    reading = read_parquet([path], Source.of(path), ReadOptions(column="aspect"))
    assert reading.sentences[0].tags == ("B-Y",)


def test_unreadable_tables_are_errors(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR0")
    with pytest.raises(ValueError, match=r"train\.parquet: not a readable Parquet file"):
        read_parquet([path], Source.of(path), ReadOptions())
    pyarrow.parquet.write_table(pyarrow.table({"sentence": ["a"]}), path)
    with pytest.raises(ValueError, match=r"train\.parquet: a table needs columns"):
        read_parquet([path], Source.of(path), ReadOptions())
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(ValueError, match="not a folder that datasets can load"):
        read_saved_dataset(tmp_path, ReadOptions())


class Hub(BaseHTTPRequestHandler):
    """The four answers of the Hub that a download of one data set asks for."""

    files: dict[str, bytes]

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/api/datasets/org/set/revision/refs%2Fconvert%2Fparquet":
            self.answer(json.dumps({"id": "org/set", "sha": COMMIT}).encode())
        elif path == f"/api/datasets/org/set/tree/{COMMIT}":
            entries = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(body),
                    "oid": hashlib.sha1(body).hexdigest(),
                }
                for name, body in self.files.items()
            ]
            self.answer(json.dumps(entries).encode())
        elif path.startswith(f"/datasets/org/set/resolve/{COMMIT}/"):
            self.answer(self.files[path.partition(COMMIT)[2][1:]])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The address of a local Hub with one data set of two configurations; the cache is empty."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with_class_labels().to_parquet(str(tmp_path / "rows.parquet"))
    body = (tmp_path / "rows.parquet").read_bytes()
    names = ("ai/train/0000.parquet", "ai/test/0000.parquet", "music/train/0000.parquet")
    handler = type("OneDataSet", (Hub,), {"files": dict.fromkeys(names, body)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_download_names_its_commit_and_works_again_offline(hub, monkeypatch):
    folder, commit = download_dataset("org/set", config="ai", endpoint=hub)
    assert commit == COMMIT
    assert contents(read_corpus(folder, "ai").test) == EXPECTED
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert download_dataset("org/set", config="ai") == (folder, commit)
    with pytest.raises(
        FileNotFoundError, match="org/set at refs/convert/parquet can be had neither"
    ):
        download_dataset("org/set", config="music")


def test_only_the_wanted_configuration_is_downloaded(hub):
    folder, _ = download_dataset("org/set", config="ai", endpoint=hub)
    assert not Path(folder.parent, "music").exists()


def test_what_the_hub_does_not_have_is_one_line(hub):
    with pytest.raises(
        FileNotFoundError, match=r"org/none at refs/convert/parquet can be had"
    ) as e:
        download_dataset("org/none", endpoint=hub)
    assert "\n" not in str(e.value)
    with pytest.raises(FileNotFoundError, match="can be had neither"):
        download_dataset("not a name", endpoint=hub)
