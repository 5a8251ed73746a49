"""A folder of plain text becomes a file of tokens, read in chunks of one length.

Every line that is not blank is a text of its own, wrapped in the tokenizer's special tokens and
laid end to end with the others; chunks are cut from that without regard to where a text ends, as
published. Nothing is ever held in memory whole: text streams in, tokens stream out, and training
maps the file. The one thing that is easy to get wrong: a kill while writing must not leave a file
that looks complete, so it gets its name last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

TOKENS_FILE = "tokens.bin"
DESCRIPTION_FILE = "tokens.json"
LINES_AT_A_TIME = 2000

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""RoBERTa's, in the order of its ids."""


@dataclass(frozen=True)
class TokenFile:
    """What `write_tokens` wrote."""

    path: Path
    num_tokens: int
    num_lines: int
    dtype: str
    fingerprint: str
    """Sixteen hex digits of all tokens in order."""

    def chunks(self, length: int) -> np.ndarray:
        """[chunks, length], mapped from disk; tokens that do not fill the last one are left out.

        Raises:
            ValueError: when there are not enough tokens for one chunk.
        """
        num_chunks = self.num_tokens // length
        if not num_chunks:
            raise ValueError(
                f"{self.path} has {self.num_tokens} tokens, fewer than one chunk of {length}; "
                "give more text, or make chunks shorter with --max-subtokens"
            )
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(num_chunks, length))

    @classmethod
    def open(cls, folder: Path) -> TokenFile | None:
        """The finished file in `folder`, or None when there is none."""
        description = folder / DESCRIPTION_FILE
        if not description.exists():
            return None
        values: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))
        return cls(path=folder / TOKENS_FILE, **values)


def text_files(folder: Path) -> list[Path]:
    """All .txt files below `folder`, sorted.

    Raises:
        FileNotFoundError: when there are none.
    """
    found = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"no .txt file in {folder}: give a folder of text with --text")
    return found


def lines(folder: Path) -> Iterator[str]:
    """Every line that is not blank, stripped, file after file.

    Raises:
        ValueError: for a file that is not UTF-8, naming file and line.
    """
    for path in text_files(folder):
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    line = raw.decode("utf-8").strip()
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path}, line {number}: not UTF-8 ({error})") from None
                if line:
                    yield line


def train_tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with RoBERTa's special tokens, trained on the text.

    Raises:
        ValueError: when `vocab_size` does not even hold all bytes and the special tokens.
    """
    specials, alphabet = list(SPECIAL_TOKENS.values()), pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(specials) + len(alphabet):
        raise ValueError(
            f"--vocab-size must be at least {len(specials) + len(alphabet)} (all bytes and the "
            f"special tokens), got {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(folder), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", specials.index("</s>")), ("<s>", specials.index("<s>"))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, add_prefix_space=True, **SPECIAL_TOKENS
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder, fit for both kinds of models.

    Raises:
        FileNotFoundError: when the folder holds none.
        ValueError: when it has no mask token, which an encoder needs.
    """
    if not (folder / "tokenizer_config.json").exists():
        raise FileNotFoundError(
            f"{folder} holds no tokenizer: expected a tokenizer_config.json beside its files"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"the tokenizer in {folder} has no mask token, which the encoder is trained with; take "
            "RoBERTa's, or leave --tokenizer out to have one trained"
        )
    return tokenizer


def write_tokens(text: Path, tokenizer: PreTrainedTokenizerBase, folder: Path) -> TokenFile:
    """Tokenize all text of one folder into a file in another, unless that was done before.

    Raises:
        ValueError: when the text that is there now is not what was tokenized.
    """
    sizes = {str(path.relative_to(text)): path.stat().st_size for path in text_files(text)}
    known = TokenFile.open(folder)
    sources = folder / "text.json"
    if known is not None:
        if json.loads(sources.read_text(encoding="utf-8")) != sizes:
            raise ValueError(
                f"{text} holds other files than those that {folder} was made of; choose another "
                "--out"
            )
        return known
    dtype = "uint16" if len(tokenizer) <= 2**16 else "uint32"
    partial = (folder / TOKENS_FILE).with_suffix(".partial")
    folder.mkdir(parents=True, exist_ok=True)
    digest, num_tokens, num_lines = hashlib.sha256(), 0, 0
    stream = lines(text)
    with partial.open("wb") as file:
        while batch := list(islice(stream, LINES_AT_A_TIME)):
            encoded = tokenizer(batch, verbose=False)["input_ids"]
            tokens = np.concatenate([np.asarray(ids, dtype=dtype) for ids in encoded])
            file.write(tokens.tobytes())
            digest.update(tokens.tobytes())
            num_tokens, num_lines = num_tokens + len(tokens), num_lines + len(batch)
    partial.replace(folder / TOKENS_FILE)
    sources.write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    written = TokenFile(folder / TOKENS_FILE, num_tokens, num_lines, dtype, digest.hexdigest()[:16])
    values = asdict(written)
    del values["path"]
    # Last: its presence says that everything else is there.
    description = (folder / DESCRIPTION_FILE).with_suffix(".partial")
    description.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    description.replace(folder / DESCRIPTION_FILE)
    return written
