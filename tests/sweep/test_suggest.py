"""A probe is a short sweep of its own, and its ranking is checked where it can be."""

import io
import json

import pytest
from rich.console import Console

import unmask.sweep.suggest
from unmask.cli import main
from unmask.results.ledger import Ledger
from unmask.sweep.execute import load_corpus
from unmask.sweep.suggest import suggest

CODES = ("0000", "0011", "1111")


@pytest.fixture
def suggested(settings, monkeypatch):
    monkeypatch.setattr(unmask.sweep.suggest, "_rdrr", lambda corpus, console: 0.5)

    def run(**changes):
        chosen = settings(configs=CODES, max_steps=6, **changes)
        console = Console(file=io.StringIO(), markup=False)
        return suggest(chosen, load_corpus(chosen), console, num_steps=2)

    return run


def test_probe_trains_few_steps_in_a_ledger_of_its_own(suggested, tmp_path):
    found = suggested(seeds=(120, 121))
    results = Ledger(tmp_path / "out" / "probe" / "ledger.jsonl").results()
    assert {(r.run.config, r.run.seed, len(r.curves["train_loss"])) for r in results} == {
        (code, 120, 2) for code in CODES
    }
    assert sorted(found.by_probe) == sorted(CODES)
    assert found.by_rdrr == ["0011", "1111", "0000"]
    assert not (tmp_path / "out" / "ledger.jsonl").exists()
    assert "not checked: there are no final scores" in found.to_text()


def test_rankings_are_checked_on_the_finished_sweep(suggested, sweep):
    sweep(configs=CODES, max_steps=6, test="none")
    found = suggested()
    assert set(found.agreements) == {"probe", "RDRR"}
    for one in found.agreements.values():
        assert one.num_configurations == 3
        assert set(one.regret) == {1}
        assert one.regret[1] >= 0
    assert found.to_text().count("checked on the ledger") == 2


def test_command_prints_json(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(unmask.sweep.suggest, "_rdrr", lambda corpus, console: None)
    flags = ["--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")]
    main(["suggest", *flags, "--configs", "0000,1111", "--probe-steps", "2", "--json"])
    values = json.loads(capsys.readouterr().out)
    assert sorted(values["by_probe"]) == ["0000", "1111"]
    assert (values["by_rdrr"], values["agreement"], values["num_steps"]) == (None, {}, 2)


def test_several_models_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["suggest", "--model", "tiny,other", "--out", str(tmp_path)])
    assert "suggest takes one --model, --task, learning rate and rank" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [["--halving"], ["--dry-run"], ["--search", "--prune"], ["--trials", "3"]],
    ids=" ".join,
)
def test_flags_that_only_a_sweep_obeys_are_refused(flags, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["suggest", *flags, "--out", str(tmp_path)])
    names = ", ".join(one for one in flags if one.startswith("--"))
    assert f"{names}: not for suggest, which probes all of --configs" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
