"""A labeler on its way to a hub: adapters, head, configuration and card; no backbone weights.

The one thing that is easy to get wrong: paths of this machine must not travel. What names a local
folder is refused or replaced before anything is sent.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from unmask.card import CARD_FILE, OWN_FOLDER, hub_id_of
from unmask.hub import lacks, why_not_on_hub, why_out_of_reach
from unmask.results.record import RECORD_FILE
from unmask.saved_folder import CONFIG_FILE, PEFT_CONFIG_FILE
from unmask.saving import is_saved


def stage(labeler: Any, folder: Path) -> None:
    """Write what `push` would upload.

    The card and run.json of the folder that the labeler was loaded from come along.

    Raises:
        ValueError: when the backbone is a local folder, which nobody else has.
    """
    load_from = labeler.loaded.load_from
    if Path(load_from).expanduser().is_dir():
        raise ValueError(
            f"the backbone of this labeler is the local folder {load_from}, which nobody else has: "
            "publish the backbone first and train on its hub id, or export with merge_and_save"
        )
    labeler.save_pretrained(folder)
    path = folder / PEFT_CONFIG_FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = hub_id_of(load_from) or load_from
    _write(path, values)
    if labeler.loaded_from is None:
        return
    if (labeler.loaded_from / CARD_FILE).is_file():
        shutil.copy(labeler.loaded_from / CARD_FILE, folder / CARD_FILE)
    if (labeler.loaded_from / RECORD_FILE).is_file():
        record = json.loads((labeler.loaded_from / RECORD_FILE).read_text(encoding="utf-8"))
        if record.get("data", {}).get("data_dir"):
            record["data"]["data_dir"] = Path(record["data"]["data_dir"]).name
        _write(folder / RECORD_FILE, record)


def push(
    labeler: Any,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Add labeler",
) -> str:
    """Upload `stage`d files to a model repository, made if need be; returns its address.

    Raises:
        ValueError: as `stage`.
        ConnectionError: when no hub answers.
        OSError: huggingface_hub's own, when it refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="unmask")
    with tempfile.TemporaryDirectory() as folder:
        stage(labeler, Path(folder))
        card = Path(folder) / CARD_FILE
        text = card.read_text(encoding="utf-8")
        card.write_text(text.replace(OWN_FOLDER, repo_id), encoding="utf-8")
        if (reason := why_out_of_reach()) is not None:
            raise ConnectionError(f"{repo_id} cannot be uploaded: {reason}")
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id, folder_path=folder, commit_message=commit_message
        )
    return str(address)


def fetch(name: str, revision: str | None = None, token: str | None = None) -> Path | None:
    """The folder of a saved labeler: a local one, or a copy of one on a hub; None for a backbone.

    Only the files of a labeler are downloaded, at `revision` (a commit, tag or branch).

    Raises:
        FileNotFoundError: for what is neither here nor to be had from the hub, with the reason.
    """
    folder = Path(name)
    if is_saved(folder):
        return folder
    if hub_id_of(name) != name:
        return None
    from huggingface_hub import snapshot_download

    reason = why_not_on_hub(name, revision, CONFIG_FILE, token)
    if reason == lacks(CONFIG_FILE):
        return None
    if reason is not None:
        raise FileNotFoundError(
            f"{name} is no folder of a labeler on this machine, and cannot be fetched from the hub "
            f"either: {reason}"
        )
    files = ["*.json", "*.safetensors", "*.txt", "*.model", CARD_FILE]
    return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=files))


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
