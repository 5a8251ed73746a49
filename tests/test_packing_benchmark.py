"""The benchmark of packs against padding: agreement first, then speed."""

import json
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def packing(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("packing")


@pytest.fixture
def run(packing, monkeypatch, tmp_path):
    """Run the command with few small batches; returns the file it writes."""

    def run(*extra):
        output = tmp_path / "packing.json"
        command = ["packing.py", "--weights", "tiny", "--rounds", "1", "--batches", "2"]
        command += ["--batch-size", "3", "--threads", "1", "--output", str(output), *extra]
        monkeypatch.setattr("sys.argv", command)
        packing.main()
        return output

    return run


def test_both_sides_agree_and_both_speeds_are_reported(run, capsys):
    report = json.loads(run().read_text())
    rows = {(row["variant"], row["mode"]): row for row in report["measurements"]}
    assert set(rows) == {
        (variant, mode)
        for variant in ("frozen", "lora")
        for mode in ("forward", "forward+backward")
    }
    for row in rows.values():
        assert row["gap"] < 1e-4
        assert row["ratio"] == pytest.approx(
            row["packed_tokens_per_second"] / row["padded_tokens_per_second"], rel=1e-2
        )
    printed = capsys.readouterr().out
    assert "lora    forward+backward" in printed


def test_no_speed_is_printed_when_the_sides_disagree(run, packing, monkeypatch, capsys, tmp_path):
    frozen_pair = packing.PAIRS["frozen"]

    def off_by_a_little(loaded, labels, seed):
        pair = frozen_pair(loaded, labels, seed)
        pair.packed.direction = pair.packed.direction * 1.001
        return pair

    monkeypatch.setitem(packing.PAIRS, "frozen", off_by_a_little)
    with pytest.raises(SystemExit) as exit_info:
        run("--variants", "frozen")
    assert exit_info.value.code == 1
    captured = capsys.readouterr()
    assert "packed and padded differ by" in captured.err
    assert captured.out == ""
    assert not (tmp_path / "packing.json").exists()


def test_a_corpus_that_is_too_small_is_refused(run, tmp_path, capsys):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.txt").write_text("EU B-ORG\nrejects O\n\nPeter B-PER\n")
    with pytest.raises(SystemExit) as exit_info:
        run("--data-dir", str(folder))
    assert exit_info.value.code == 2
    assert "has 2 sentences in its largest usable split, 6 are needed" in capsys.readouterr().err


def test_drawn_sentences_are_as_long_as_those_of_conll_2003(packing):
    drawn = packing.draw_workload(1024, num_batches=100, batch_size=16, seed=1)
    # 1600 gamma draws with a deviation of 12: the mean is within 4 standard errors, 1.2.
    assert drawn.describe()["words_a_sentence"] == pytest.approx(14.5, abs=1.2)
    words = [sentence.num_words for batch in drawn.batches for sentence in batch]
    assert min(words) == 1
    assert 60 < max(words) <= 113
    assert 20 < drawn.describe()["tokens_a_sentence"] < 25
