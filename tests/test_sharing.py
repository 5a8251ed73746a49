from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from unmask import UnmaskedForTokenClassification
from unmask.hub import lacks
from unmask.recipe import PAPER
from unmask.results.record import RunRecord
from unmask.results.run import Run, RunResult
from unmask.sharing import fetch, stage

TEXT = "Velmora , a river in the north , froze early"


@pytest.fixture
def saved(random_labeler, tmp_path):
    labeler = random_labeler()
    labeler.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "README.md").write_text("# its own card\n")
    run = Run("tiny", "mine", "0110", 120, PAPER, "0" * 16)
    RunRecord(RunResult(run, {}), "tiny", {"data_dir": "/home/somebody/corpus"}).write(
        tmp_path / "saved"
    )
    return UnmaskedForTokenClassification.from_pretrained(tmp_path / "saved")


def test_only_adapters_head_configuration_and_card_travel(saved, tmp_path):
    stage(saved, tmp_path / "staged")
    names = {path.name for path in (tmp_path / "staged").iterdir()}
    assert names == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "run.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "unmask_config.json",
    }
    tensors = load_file(tmp_path / "staged" / "adapter_model.safetensors")
    trained = sum(tensor.numel() for tensor in saved.run_parameters(0).values())
    assert sum(tensor.numel() for tensor in tensors.values()) == trained
    assert (tmp_path / "staged" / "README.md").read_text() == "# its own card\n"


def test_no_path_of_this_machine_travels(saved, tmp_path):
    stage(saved, tmp_path / "staged")
    for path in (tmp_path / "staged").glob("*.json"):
        text = path.read_text()
        assert str(tmp_path) not in text
        assert "/home/somebody" not in text
        assert "site-packages" not in text
    config = json.loads((tmp_path / "staged" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"


def test_what_travels_loads_as_the_labeler_it_was(saved, tmp_path):
    stage(saved, tmp_path / "staged")
    again = UnmaskedForTokenClassification.from_pretrained(tmp_path / "staged")
    assert again.predict(TEXT) == saved.predict(TEXT)


def test_a_backbone_that_nobody_else_has_is_refused(random_labeler, tmp_path):
    labeler = random_labeler()
    labeler.loaded.load_from = str(tmp_path)
    with pytest.raises(ValueError, match=r"is the local folder .*, which nobody else has"):
        stage(labeler, tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_a_labeler_is_fetched_from_its_folder_or_the_hub_and_nothing_else(saved, tmp_path):
    assert fetch(str(tmp_path / "saved")) == tmp_path / "saved"
    assert fetch("tiny") is None
    with pytest.raises(
        FileNotFoundError, match="nobody/has-this is no folder of a labeler on this m"
    ):
        fetch("nobody/has-this")


def test_a_model_on_the_hub_without_our_file_is_a_backbone(monkeypatch):
    monkeypatch.setattr(
        "unmask.sharing.why_not_on_hub", lambda name, revision, file, token: lacks(file)
    )
    assert fetch("owner/name") is None


def test_a_hub_labeler_is_downloaded_without_more_than_its_files(saved, tmp_path, monkeypatch):
    asked = {}

    def why_not(name, revision, file, token):
        asked["first"] = (name, file)

    def snapshot(name, allow_patterns, **settings):
        asked.update(settings, patterns=allow_patterns)
        return str(tmp_path / "saved")

    monkeypatch.setattr("unmask.sharing.why_not_on_hub", why_not)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    labeler = UnmaskedForTokenClassification.from_pretrained("owner/labeler", revision="v1")
    assert (asked["revision"], asked["token"]) == ("v1", None)
    assert asked["first"] == ("owner/labeler", "unmask_config.json")
    assert not any("py" in pattern or "bin" in pattern for pattern in asked["patterns"])
    assert labeler.predict(TEXT) == saved.predict(TEXT)


def test_a_revision_of_a_backbone_is_refused():
    with pytest.raises(ValueError, match="tiny is a backbone: revision and token are for saved"):
        UnmaskedForTokenClassification.from_pretrained("tiny", labels=["X"], revision="v1")
