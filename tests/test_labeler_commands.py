from __future__ import annotations

import io
import json
import re
import socket
import sys

import pytest

from unmask.cli import main
from unmask.data import lookright

TEXT = "Velmora , a river in the north , froze early"


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler("0110", lookright.generate(1, 3, 3, 3).labels)


@pytest.fixture
def saved(labeler, tmp_path):
    labeler.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def data_dir(tmp_path):
    corpus = lookright.generate(3, 20, 12, 12)
    for name, sentences in (("train", corpus.train), ("dev", corpus.validation)):
        rows = ["\n".join(map(" ".join, zip(s.words, s.tags, strict=True))) for s in sentences]
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text("\n\n".join(rows) + "\n")
    return folder


def stdin(monkeypatch, text):
    class Stdin:
        buffer = io.BytesIO(text.encode())

    monkeypatch.setattr(sys, "stdin", Stdin)


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("format", ["unmask", "conll"])
def test_a_live_stream_is_answered_line_by_line(saved, monkeypatch, capsys, format):
    answers = []

    class Live(io.BytesIO):
        def __iter__(self):
            for _ in range(2):
                yield f"{TEXT}\n".encode()
                answers.append(capsys.readouterr().out)

    class Stdin:
        buffer = Live()

    monkeypatch.setattr(sys, "stdin", Stdin)
    main(["predict", str(saved), "-", "--read-ahead", "1", "--format", format])
    assert len(answers) == 2
    assert all("Velmora" in answer for answer in answers)


def test_predict_obeys_threshold_and_format(saved, labeler, monkeypatch, capsys):
    stdin(monkeypatch, f"{TEXT}\n\n{TEXT}")
    main(["predict", str(saved), "-", "--threshold", "0.5", "--format", "hf"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [TEXT, "", TEXT]
    expected = labeler.predict(TEXT, threshold=0.5, format="hf")
    assert [span["word"] for span in lines[0]["spans"]] == [span["word"] for span in expected]
    assert [span["score"] for span in lines[0]["spans"]] == pytest.approx(
        [span["score"] for span in expected], abs=1e-5
    )


def test_predict_writes_columns_that_can_be_read_again(saved, labeler, tmp_path, capsys):
    from unmask.data.readers import read_file

    (tmp_path / "in.txt").write_text(f"{TEXT}\n{TEXT}\n")
    main(["predict", str(saved), str(tmp_path / "in.txt"), "--format", "conll"])
    (tmp_path / "out.conll").write_text(capsys.readouterr().out)
    assert len(read_file(tmp_path / "out.conll").sentences) == 2


def test_predict_says_of_each_line_whether_it_was_cut(saved, tmp_path, capsys):
    (tmp_path / "in.txt").write_text(f"{TEXT}\n{' '.join([TEXT] * 30)}\n")
    with pytest.warns(UserWarning, match="were left out"):
        main(["predict", str(saved), str(tmp_path / "in.txt"), "--on-truncation", "warn"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["truncated"] for line in lines] == [False, True]


def test_predict_can_refuse_what_is_too_long(saved, tmp_path, capsys):
    (tmp_path / "in.txt").write_text(" ".join([TEXT] * 30))
    code, said = fails(capsys, "predict", saved, tmp_path / "in.txt", "--on-truncation", "error")
    assert code == 2
    assert "do not fit into" in said


def test_evaluate_gives_the_score_of_the_scorer_and_the_mistakes(saved, labeler, data_dir, capsys):
    from unmask.data.tasks import load_task
    from unmask.evaluation import evaluate

    main(["evaluate", str(saved), "--data-dir", str(data_dir), "--split", "validation"])
    out = capsys.readouterr().out
    corpus = load_task("data", data_dir)
    expected = evaluate(labeler, corpus.validation, corpus.train)
    assert out.strip() == expected.to_text()
    counts = expected.mistakes.counts
    assert expected.mistakes.num_correct + sum(
        counts[kind] for kind in ("boundary", "label", "missed")
    ) == sum(row["support"] for row in expected.scores["per_label"].values())
    assert "strict, IOB2, 12 sentences, 0 words cut" in out


def test_evaluate_notes_labels_that_the_labeler_does_not_have(saved, data_dir, capsys):
    flags = ["--data-dir", str(data_dir), "--split", "validation"]
    main(["evaluate", str(saved), *flags])
    assert "never gives" not in capsys.readouterr().err
    dev = data_dir / "dev.txt"
    dev.write_text(dev.read_text().replace("-PER", "-person"))
    main(["evaluate", str(saved), *flags])
    said = capsys.readouterr().err
    assert "note: data has person, which this labeler never gives; it gives LOC, ORG, PER\n" in said


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_notes_on_the_corpus_are_said(saved, data_dir, capsys, command):
    (data_dir / "dev.txt").write_text((data_dir / "train.txt").read_text())
    main([command, str(saved), "--data-dir", str(data_dir), "--split", "validation"])
    assert "sentences also occur in an earlier split" in capsys.readouterr().err


def test_evaluate_writes_a_page_and_json(saved, data_dir, tmp_path, capsys):
    flags = ["--data-dir", str(data_dir), "--split", "validation"]
    main(["evaluate", str(saved), *flags, "--json", "--html", str(tmp_path / "page.html")])
    said = json.loads(capsys.readouterr().out)
    assert said["scores"]["num_sentences"] == 12
    assert (
        sum(total for _, total in said["mistakes"]["recall_by_length"].values())
        == (said["scores"]["support"])
    )
    page = (tmp_path / "page.html").read_text()
    assert f"{said['scores']['f1']:.4f}" in page
    assert "on data, validation</h1>" in page


def test_evaluate_shows_what_another_labeler_mends_and_breaks(saved, labeler, data_dir, capsys):
    from unmask.evaluation import evaluate

    other = saved.parent / "other"
    labeler.save_pretrained(other)
    config = other / "unmask_config.json"
    values = json.loads(config.read_text())
    values.update(bidirectional=[False] * 8, num_groups=4)
    config.write_text(json.dumps(values))
    flags = ["--data-dir", str(data_dir), "--split", "validation"]
    main(["evaluate", str(saved), *flags, "--against", str(other)])
    out = capsys.readouterr().out
    counts = re.match(r"F1 \S+ -> \S+; (\d+) sentences are better .*, (\d+) worse", out)
    assert counts
    assert int(counts[1]) + int(counts[2]) > 0, "the mask changes nothing: this tests nothing"
    assert out.count("better by") == min(int(counts[1]), 10)
    assert out.count("worse by") == min(int(counts[2]), 10)
    main(["evaluate", str(saved), *flags, "--against", str(saved)])
    assert "0 sentences are better with the second labeler, 0 worse" in capsys.readouterr().out
    corpus = lookright.generate(3, 20, 12, 12)
    first, second = (evaluate(labeler, part) for part in (corpus.validation, corpus.test))
    with pytest.raises(ValueError, match="can only be compared on the same sentences"):
        first.against(second)


def test_evaluating_an_empty_split_is_refused(saved, data_dir, capsys):
    code, said = fails(capsys, "evaluate", saved, "--data-dir", data_dir)
    assert code == 2
    assert "there is no sentence to evaluate on" in said


def test_calibrate_stores_the_temperature_and_nothing_else(saved, data_dir, capsys):
    before = json.loads((saved / "unmask_config.json").read_text())
    card = (saved / "README.md").read_bytes()
    main(["calibrate", str(saved), "--data-dir", str(data_dir)])
    after = json.loads((saved / "unmask_config.json").read_text())
    assert f"temperature {after['temperature']:.4f}" in capsys.readouterr().out
    assert after["temperature"] != 1
    assert {**before, "temperature": None} == {**after, "temperature": None}
    assert (saved / "README.md").read_bytes() == card


def test_explain_writes_a_page_and_prints_the_counts(saved, tmp_path, capsys):
    (tmp_path / "in.txt").write_text(f"{TEXT}\n\na river\n")
    page = tmp_path / "page.html"
    main(["explain", str(saved), str(tmp_path / "in.txt"), "--out", str(page)])
    out = capsys.readouterr().out
    assert out.startswith("2 sentences, labeled by 0110\n")
    assert "change with all layers closed" in out
    assert out.strip().splitlines()[-1] == str(page)
    assert "<h2>sentence 1</h2>" in page.read_text()
    main(
        ["explain", str(saved), "--other", str(saved), str(tmp_path / "in.txt"), "--out", str(page)]
    )
    assert "     0 change with the other labeler (0110)" in capsys.readouterr().out


def test_export_writes_a_folder_that_transformers_loads(saved, tmp_path, capsys):
    from transformers import AutoModelForTokenClassification

    main(["export", str(saved), str(tmp_path / "merged")])
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged")
    assert model.config.unmask_bidirectional == [False] * 2 + [True] * 4 + [False] * 2


def test_push_uploads_what_was_staged(saved, monkeypatch, capsys):
    from pathlib import Path

    uploaded = {}

    class Api:
        def __init__(self, **settings):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            class Address(str):
                repo_id = ""

            address = Address("https://hub/" + repo_id)
            address.repo_id = repo_id
            return address

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded[repo_id] = {
                path.name: path.read_bytes() for path in Path(folder_path).iterdir()
            }

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("unmask.sharing.why_out_of_reach", lambda: None)
    main(["push", str(saved), "me/labeler"])
    assert capsys.readouterr().out == "https://hub/me/labeler\n"
    assert "adapter_model.safetensors" in uploaded["me/labeler"]
    assert "model.safetensors" not in uploaded["me/labeler"]
    assert b'from_pretrained("me/labeler")' in uploaded["me/labeler"]["README.md"]


def test_push_without_a_hub_is_one_line(saved, monkeypatch, capsys):
    monkeypatch.setattr("unmask.sharing.why_out_of_reach", lambda: "no hub in reach (ConnectError)")
    code, said = fails(capsys, "push", saved, "me/labeler")
    assert code == 1
    assert said == (
        "unmask push: error: me/labeler cannot be uploaded: no hub in reach (ConnectError)\n"
    )


def test_a_labeler_may_be_one_on_a_hub(saved, labeler, monkeypatch, capsys):
    monkeypatch.setattr("unmask.model.fetch", lambda *_: saved)
    stdin(monkeypatch, TEXT)
    main(["predict", "me/labeler", "-"])
    spans = json.loads(capsys.readouterr().out)["spans"]
    assert [span["text"] for span in spans] == [span["text"] for span in labeler.predict(TEXT)]


def test_calibrate_needs_a_folder_to_write_to(data_dir, capsys):
    code, said = fails(capsys, "calibrate", "me/labeler", "--data-dir", data_dir)
    assert code == 2
    assert "me/labeler is no folder of a labeler, to keep the temperature in" in said


def test_serve_listens_where_it_is_told(saved, monkeypatch, capsys):
    import uvicorn

    asked = []

    def run(self, sockets):
        asked.extend(one.getsockname() for one in sockets)
        raise KeyboardInterrupt  # is how serving ends

    monkeypatch.setattr(uvicorn.Server, "run", run)
    main(["serve", str(saved), "--port", "0"])
    [(host, port)] = asked
    assert host == "127.0.0.1"
    assert f"http://127.0.0.1:{port}," in capsys.readouterr().err


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", "99999"), ("no.such.host.invalid", "0")])
def test_an_address_that_cannot_be_had_is_refused(saved, host, port, capsys):
    code, said = fails(capsys, "serve", saved, "--host", host, "--port", port)
    assert code == 2
    assert f"cannot serve on {host}:{port} (" in said


def test_a_port_that_is_taken_is_refused_before_the_labeler_is_loaded(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, said = fails(capsys, "serve", tmp_path, "--port", port)
    assert code == 2
    assert f"cannot serve on 127.0.0.1:{port} (Address already in use); give another" in said


def test_serve_says_what_to_install(saved, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "unmask.plugins.serve", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, said = fails(capsys, "serve", saved)
    assert code == 2
    assert 'pip install "unmask[serve]"' in said


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "serve", "export", "push", "predict"])
def test_a_folder_that_is_no_labeler_is_refused(command, tmp_path, data_dir, capsys):
    extra = {
        "export": [tmp_path / "out"],
        "push": ["me/x"],
        "predict": ["-"],
        "serve": ["--port", "0"],
        "evaluate": ["--data-dir", data_dir],
        "calibrate": ["--data-dir", data_dir],
    }
    code, said = fails(capsys, command, tmp_path, *extra.get(command, []))
    assert code == 2
    assert re.search(
        "is not a folder written by save_pretrained|is no folder of a labeler, to", said
    )


def test_reproduce_refuses_what_is_no_record(tmp_path, capsys):
    code, said = fails(capsys, "reproduce", tmp_path)
    assert code == 2
    assert "run.json; give the run.json of a sweep's run" in said
    (tmp_path / "run.json").write_text("")
    _, said = fails(capsys, "reproduce", tmp_path)
    assert said.endswith(
        "run.json is no record of a run: Expecting value: line 1 column 1 (char 0)\n"
    )
    (tmp_path / "run.json").write_text("{}")
    _, said = fails(capsys, "reproduce", tmp_path)
    assert said.endswith("run.json is no record of a run: it lacks 'format_version'\n")
