from __future__ import annotations

import pytest

from unmask.analysis.scoring import score
from unmask.formats import FORMATS, convert
from unmask.predict import Prediction

TEXT = "Ada Lovelace met Bob."
SPANS = [
    Prediction(text="Ada Lovelace", label="PER", score=0.75, start=0, end=12),
    Prediction(text="Bob", label="PER", score=0.5, start=17, end=20),
]


def test_hf_has_the_keys_of_the_transformers_pipeline():
    assert convert("hf", TEXT, SPANS)[0] == {
        "entity_group": "PER",
        "score": 0.75,
        "word": "Ada Lovelace",
        "start": 0,
        "end": 12,
    }


def test_spacy_draws_what_displacy_is_given():
    from spacy import displacy

    html = displacy.render(convert("spacy", TEXT, SPANS), style="ent", manual=True, page=False)
    assert "Ada Lovelace" in html
    assert html.count("PER") == 2


def test_html_marks_the_spans_and_shows_text_as_text():
    html = convert(
        "html", "<i>Ada</i>", [Prediction(text="Ada", label="PER", score=1.0, start=3, end=6)]
    )
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert html.count("PER") == 1


def test_conll_lines_read_back_as_the_same_spans(tmp_path):
    from unmask.data.readers import read_file

    path = tmp_path / "out.conll"
    path.write_text(convert("conll", TEXT, SPANS), encoding="utf-8")
    sentence = read_file(path).sentences[0]
    assert sentence.words == ("Ada", "Lovelace", "met", "Bob", ".")
    assert score([["B-PER", "I-PER", "O", "B-PER", "O"]], [sentence.tags])["f1"] == 1


def test_conll_takes_words_as_they_were_given():
    spans = [Prediction(text="New York", label="LOC", score=1.0, start=3, end=11)]
    assert convert("conll", ["in", "New York", "."], spans) == "in O\nNew York B-LOC\n. O\n\n"


def test_brat_gives_one_line_a_span():
    assert convert("brat", TEXT, SPANS) == "T1\tPER 0 12\tAda Lovelace\nT2\tPER 17 20\tBob\n"


def test_brat_cuts_a_span_at_line_breaks():
    spans = [Prediction(text="New\nYork", label="big city", score=1.0, start=2, end=10)]
    assert convert("brat", "a New\nYork", spans) == "T1\tbig_city 2 5;6 10\tNew York\n"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_takes_an_input_without_spans(name):
    assert not convert(name, "", []) or name in ("html", "spacy", "conll")


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown format 'xml'; choose one of unmask, hf"):
        convert("xml", TEXT, SPANS)
