from __future__ import annotations

import pytest

from unmask import UnmaskedForTokenClassification
from unmask.explain import explain

TEXT = "Velmora , a river in the north , froze <early>"
SENTENCES = [TEXT.split(), ["a", "river"], TEXT.split()[:5]]


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler("0110")


def test_each_open_group_and_all_of_them_are_closed_in_turn(labeler):
    found = explain(labeler, SENTENCES)
    assert [variant.name for variant in found.variants] == [
        "0110",
        "layers 2 to 3 closed",
        "layers 4 to 5 closed",
        "all layers closed",
    ]
    assert labeler.verify_mask().agrees
    assert labeler.configs[0].code == "0110"


def test_a_closed_labeler_predicts_as_one_that_was_causal_from_the_start(labeler, random_labeler):
    causal = random_labeler("0000")
    causal.load_state_dict(labeler.state_dict())
    expected = explain(causal, SENTENCES).variants[0]
    closed = explain(labeler, SENTENCES).variants[-1]
    assert closed.spans == expected.spans
    assert closed.spans != explain(labeler, SENTENCES).variants[0].spans


def test_closing_changes_nothing_where_there_is_nothing_to_the_right(labeler):
    base, *others = explain(labeler, [["river"]]).variants
    assert all(variant.spans == base.spans for variant in others)


def test_a_set_of_layers_is_closed_layer_by_layer(random_labeler):
    labeler = random_labeler([1, 6])
    names = [variant.name for variant in explain(labeler, SENTENCES).variants]
    assert names[1:] == ["layer 1 closed", "layer 6 closed", "all layers closed"]


def test_the_page_shows_every_changed_sentence_with_its_text_escaped(labeler):
    found = explain(labeler, SENTENCES)
    base, *others = found.variants
    changed = {index for variant in others for index in variant.differences(base)}
    page = found.to_html()
    assert page.count("<h2>") == len(changed) > 0
    assert "<early>" not in page
    assert "&lt;early&gt;" in page
    assert f"{len(found.variants[-1].differences(base)):>6} change with all layers closed" in page


def test_two_labelers_are_compared_as_they_are(labeler, random_labeler):
    found = explain(labeler, SENTENCES, random_labeler("0000"))
    assert [variant.name for variant in found.variants] == ["0110", "the other labeler (0000)"]


def test_an_encoder_is_refused():
    labeler = UnmaskedForTokenClassification.from_pretrained("minilm-l6", labels=["X"])
    with pytest.raises(ValueError, match="an encoder has no causal mask to put back"):
        explain(labeler, SENTENCES)
