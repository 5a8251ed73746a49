"""Words to sub-tokens and back, without trusting a tokenizer's offsets.

Every word is encoded by itself, with the space that stands before it in running text. Some
tokenizers ignore `add_prefix_space` or return wrong offsets without a word (SmolLM2's GGUF
tokenizer does both); `WordEncoder` finds out by trial which form gives the tokens of running
text, and refuses a tokenizer where none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unmask.data.sentence import Sentence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED_LABEL = -100
"""Label id of positions where nothing is predicted; PyTorch's cross-entropy skips it."""

MAX_CACHED_WORDS = 2**17
"""Words whose sub-tokens are kept; a stream without end must not fill the memory."""

PROBE_WORDS = ("EU", "rejects", "German", "call", "to", "boycott", "British", "lamb", ".")


@dataclass(frozen=True, slots=True)
class EncodedSentence:
    """Sub-tokens of one sentence.

    `word_index[i]` is the word that token i belongs to, or -1 for a special token. `label_ids`
    holds the word's tag at its first sub-token and `IGNORED_LABEL` elsewhere, so the number of
    labels that are not ignored is the number of words kept.
    """

    sentence_id: str
    token_ids: tuple[int, ...]
    word_index: tuple[int, ...]
    label_ids: tuple[int, ...]
    num_truncated_words: int

    @property
    def num_words(self) -> int:
        """Words kept."""
        return sum(label != IGNORED_LABEL for label in self.label_ids)


class WordEncoder:
    """Encodes pre-split words so that their tokens are those of the running text.

    A sentence gets the special tokens that the tokenizer puts around running text (Llama and
    Mistral begin with one, BERT wraps in two, SmolLM2 uses none); they are attended by all and
    labelled by none.

    Raises:
        ValueError: when the tokenizer gives a pre-split sentence other tokens than its text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._cache: dict[str, tuple[int, ...]] = {}
        self._word_prefix = self._find_word_prefix()
        self._before, self._after = self._find_special_tokens()

    @property
    def num_special_tokens(self) -> int:
        """Tokens added around every sentence."""
        return len(self._before) + len(self._after)

    @property
    def special_tokens(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids put before and after every sentence."""
        return self._before, self._after

    def encode_word(self, word: str) -> tuple[int, ...]:
        """Sub-tokens of a word as it stands after a space; never empty."""
        if word not in self._cache:
            if len(self._cache) >= MAX_CACHED_WORDS:
                self._cache.clear()
            ids = self._encode(self._word_prefix + word)
            self._cache[word] = tuple(ids) or (self._unknown_token(word),)
        return self._cache[word]

    def encode(
        self, sentence: Sentence, tag_ids: dict[str, int], max_subtokens: int
    ) -> EncodedSentence:
        """Encode a sentence; words that do not fit in `max_subtokens` are cut and counted.

        Raises:
            ValueError: for a tag that `tag_ids` does not know, or no room for a single token.
        """
        unknown = next((tag for tag in sentence.tags if tag not in tag_ids), None)
        if unknown is not None:
            raise ValueError(
                f"sentence {sentence.id} has the tag {unknown!r}, but this model knows only "
                f"{', '.join(tag_ids)}"
            )
        labels = [tag_ids[tag] for tag in sentence.tags]
        return self._assemble(sentence.id, sentence.words, labels, max_subtokens)

    def encode_words(self, words: Sequence[str], max_subtokens: int) -> EncodedSentence:
        """Encode words without tags; `label_ids` are 0 at first sub-tokens, to mark them."""
        return self._assemble("", words, [0] * len(words), max_subtokens)

    def _assemble(
        self, sentence_id: str, words: Sequence[str], labels: Sequence[int], max_subtokens: int
    ) -> EncodedSentence:
        room = max_subtokens - self.num_special_tokens
        if room < 1:
            raise ValueError(
                f"max_subtokens={max_subtokens} leaves no room for words beside the "
                f"{self.num_special_tokens} special tokens of a sentence"
            )
        token_ids, word_index, label_ids = list(self._before), [-1] * len(self._before), []
        label_ids.extend([IGNORED_LABEL] * len(self._before))
        num_kept = 0
        for word, label in zip(words, labels, strict=True):
            pieces = self.encode_word(word)
            if num_kept == 0:
                # A first word that fills the room alone is shortened, not lost: its label is read
                # at its first sub-token.
                pieces = pieces[:room]
            if len(pieces) > room:
                break
            room -= len(pieces)
            token_ids.extend(pieces)
            word_index.extend([num_kept] * len(pieces))
            label_ids.extend([label] + [IGNORED_LABEL] * (len(pieces) - 1))
            num_kept += 1
        return EncodedSentence(
            sentence_id,
            (*token_ids, *self._after),
            (*word_index, *[-1] * len(self._after)),
            (*label_ids, *[IGNORED_LABEL] * len(self._after)),
            len(words) - num_kept,
        )

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _find_word_prefix(self) -> str:
        text = " ".join(PROBE_WORDS)
        for prefix in (" ", ""):
            by_words = [token for word in PROBE_WORDS for token in self._encode(prefix + word)]
            if by_words == self._encode(prefix + text):
                return prefix
        raise ValueError(
            f"the tokenizer {type(self.tokenizer).__name__} tokenizes the words of {text!r} "
            "unlike the running text, so labels cannot be aligned; use another backbone"
        )

    def _find_special_tokens(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        text = self._word_prefix + " ".join(PROBE_WORDS)
        plain, full = self._encode(text), self.tokenizer.encode(text)
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return tuple(full[:start]), tuple(full[start + len(plain) :])
        raise ValueError(
            f"the tokenizer {type(self.tokenizer).__name__} changes the tokens of a sentence "
            "when it adds special tokens; use another backbone"
        )

    def _unknown_token(self, word: str) -> int:
        for token in (self.tokenizer.unk_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        raise ValueError(f"the tokenizer has no token for the word {word!r} and no unknown token")
