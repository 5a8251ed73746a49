"""`unmask compare` on what a sweep leaves behind."""

import json

import pytest

from unmask.cli import main


@pytest.fixture(scope="module")
def swept(warm_python, data_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept")
    code = warm_python.run(
        [
            *("--task", "small", "--data-dir", str(data_dir), "--out", str(out)),
            *("--configs", "0000,0110,1111", "--seeds", "120,121", "--max-steps", "8"),
            *("--test", "all"),
        ]
    )
    assert code == 0, warm_python.log.read_text()
    return out


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_sweep_keeps_counts_that_add_up_to_its_scores(swept, split):
    from unmask.results.ledger import Ledger

    for result in Ledger(swept / "ledger.jsonl").results():
        path = swept / "runs" / result.run.id / f"counts.{split}.json"
        rows = json.loads(path.read_text())
        correct, predicted, gold = (sum(column) for column in zip(*rows, strict=True))
        assert len(rows) == 12
        assert gold == result.scores[split]["support"]
        assert 2 * correct / max(predicted + gold, 1) == pytest.approx(result.scores[split]["f1"])


def test_configurations_are_compared_over_seeds_and_sentences(swept, capsys):
    main(["compare", "0110", "0000", "1111", "--in", str(swept), "--json"])
    [group] = json.loads(capsys.readouterr().out)
    assert [(p["first"], p["second"]) for p in group["pairs"]] == [
        ("0110", "0000"),
        ("0110", "1111"),
        ("0000", "1111"),
    ]
    for pair in group["pairs"]:
        assert pair["over_seeds"]["num_seeds"] == 2
        assert pair["over_sentences"]["num_runs"] == 2
        assert pair["over_sentences"]["num_sentences"] == 12
        assert pair["over_sentences"]["p_value"] <= pair["over_sentences"]["p_holm"]


def test_saved_labelers_are_compared_on_a_file(swept, data_dir, capsys):
    folders = sorted(str(folder) for folder in (swept / "runs").iterdir())[:2]
    main(["compare", *folders, "--file", str(data_dir / "test.txt")])
    text = capsys.readouterr().out
    assert f"{folders[0]} minus {folders[1]}" in text
    assert "12 sentences, runs a side: 1" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["0000", "0101", "--in", "{out}"], "no task and backbone with results of all of"),
        (["0000", "1111", "--in", "{out}/none"], "holds no ledger.jsonl"),
        (["0000", "1111"], "give --in FOLDER"),
        (["0000", "1111", "--file", "{out}/none"], "none"),
        (["0000", "--file", "{out}/ledger.jsonl"], "two or more different labelers"),
    ],
)
def test_wrong_input_is_one_line(swept, flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", *(flag.format(out=swept) for flag in flags)])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
