"""The few-shot curve: one point a size, from what the ledger has or lacks."""

from pathlib import Path
from statistics import fmean, stdev

import pytest

from unmask.cli import main
from unmask.results.ledger import Ledger


@pytest.fixture
def flags(data_dir, tmp_path):
    return [
        *("few-shot", "--task", "small", "--data-dir", str(data_dir), "--device", "cpu"),
        *("--out", str(tmp_path / "out"), "--max-steps", "2", "--unmask", "0110"),
    ]


def test_every_size_is_a_point_with_the_spread_over_seeds(flags, tmp_path, capsys, monkeypatch):
    main([*flags, "--sizes", "40,8", "--seeds", "1,2"])
    printed = capsys.readouterr()
    assert "1 runs" not in printed.err
    assert "2 runs (8 sentences), 0 of them already in" in printed.err
    said = printed.out.splitlines()
    results = Ledger(tmp_path / "out" / "ledger.jsonl").results()
    assert len({(one.run.data_fingerprint, one.run.seed) for one in results}) == 4
    assert not any("test" in one.scores for one in results)
    for line, size in zip(said[1:3], (8, 40), strict=True):
        number, mean, spread, count = line.split()
        of_size = results[:2] if size == 8 else results[2:]
        f1s = [one.scores["validation"]["f1"] for one in of_size]
        assert (int(number), int(count)) == (size, 2)
        assert (float(mean), float(spread)) == pytest.approx((fmean(f1s), stdev(f1s)), abs=1e-4)
    assert (tmp_path / "out" / "few_shot.png").stat().st_size > 5000
    assert said[3] == str(tmp_path / "out" / "few_shot.png")
    main(["report", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "small, tiny, 8 training sentences" in page
    assert "small, tiny, 40 training sentences" in page
    capsys.readouterr()
    monkeypatch.setattr("unmask.sweep.stack.fit", None)  # nothing is left to train
    main([*flags, "--sizes", "8,40", "--seeds", "1,2"])
    assert capsys.readouterr().out.splitlines() == said


def test_results_lie_apart_from_those_of_a_sweep_unless_said(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    at = flags.index("--out")
    main([*flags[:at], *flags[at + 2 :], "--sizes", "8", "--seeds", "1"])
    assert "1 run (8 sentences), 0 of them already in" in capsys.readouterr().err
    assert Path("results/tiny-small/few-shot/ledger.jsonl").exists()
    assert not Path("results/tiny-small/ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("8,8", r"--sizes must be one or more different numbers, got \[8, 8\]"),
        ("8,900", "--sizes: 900 is not between 1 and the 48 in training"),
        ("0", "--sizes: 0 is not between 1 and the 48 in training"),
    ],
)
def test_sizes_that_cannot_be_are_refused(flags, capsys, sizes, message):
    with pytest.raises(SystemExit, match="2"):
        main([*flags, "--sizes", sizes])
    assert message.replace("\\", "") in capsys.readouterr().err
