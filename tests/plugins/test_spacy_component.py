from __future__ import annotations

from typing import Any

import pytest
import spacy
from spacy.tokens import Span

from unmask.plugins import spacy_component

TEXT = "Velmora , a river in the north ,  froze early . Bob saw it"


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler()


@pytest.fixture(scope="module")
def folder(labeler, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labeler")
    labeler.save_pretrained(folder)
    return str(folder)


def pipeline(folder, **config):
    nlp = spacy.blank("en")
    nlp.add_pipe("unmask", config={"model": folder, **config})
    return nlp


def found(spans):
    return [(span.start_char, span.end_char, span.label_) for span in spans]


def test_the_entry_point_names_the_factory():
    from importlib.metadata import entry_points

    (point,) = [p for p in entry_points(group="spacy_factories") if p.name == "unmask"]
    assert point.load() is spacy_component.make_component


def test_entities_are_those_of_predict_on_spacys_own_tokens(folder, labeler):
    doc = pipeline(folder)(TEXT)
    assert any(token.is_space for token in doc)
    words = [token.text for token in doc if not token.is_space]
    (expected,) = labeler.predict([words])
    assert [(ent.text.replace("  ", " "), ent.label_) for ent in doc.ents] == [
        (span["text"], span["label"]) for span in expected
    ]
    scores = doc.spans["unmask"].attrs["scores"]
    assert scores == pytest.approx([span["score"] for span in expected], abs=1e-5)
    assert found(doc.spans["unmask"]) == found(doc.ents)


def test_pipe_gives_what_single_calls_give_in_order(folder):
    nlp = pipeline(folder, batch_size=2)
    words = TEXT.split()
    texts = [" ".join(words[n % 5 : 5 + n]) for n in range(11)] + [""]
    piped = [found(doc.ents) for doc in nlp.pipe(texts, batch_size=4)]
    assert piped == [found(nlp(text).ents) for text in texts]
    assert piped[-1] == []


def test_sentences_are_read_one_by_one_where_there_are_boundaries(folder, labeler):
    nlp = pipeline(folder)
    nlp.add_pipe("sentencizer", before="unmask")
    doc = nlp(TEXT)
    words = [[t.text for t in sentence if not t.is_space] for sentence in doc.sents]
    assert len(words) == 2
    expected = [span["label"] for spans in labeler.predict(words) for span in spans]
    assert [ent.label_ for ent in doc.ents] == expected
    whole = pipeline(folder, by_sentence=False)
    whole.add_pipe("sentencizer", before="unmask")
    assert found(whole(TEXT).ents) == found(pipeline(folder)(TEXT).ents)


@pytest.mark.parametrize("overwrite", [True, False])
def test_earlier_entities_stay_unless_overwritten(folder, overwrite):
    nlp = pipeline(folder, overwrite_entities=overwrite)
    doc = nlp.make_doc(TEXT)
    doc.set_ents([Span(doc, 0, len(doc), label="EVERYTHING")])
    doc = nlp.get_pipe("unmask")(doc)
    # The longest of overlapping spans wins.
    assert ([ent.label_ for ent in doc.ents] == ["EVERYTHING"]) is not overwrite
    assert len(doc.spans["unmask"]) > 1


def test_a_threshold_leaves_out_doubtful_entities(folder):
    every = pipeline(folder)(TEXT)
    scores = every.spans["unmask"].attrs["scores"]
    middle = sorted(scores)[len(scores) // 2]
    kept = pipeline(folder, threshold=middle)(TEXT)
    assert len(kept.ents) == sum(score >= middle for score in scores)


def test_a_pipeline_without_a_model_or_with_a_wrong_one_is_refused():
    with pytest.raises(ValueError, match="name a saved labeler"):
        spacy.blank("en").add_pipe("unmask")
    with pytest.raises(ValueError, match="nowhere is not a folder that save_pretrained"):
        spacy.blank("en").add_pipe("unmask", config={"model": "nowhere"})


def test_a_pipeline_is_saved_and_loaded_with_its_settings(folder, tmp_path):
    pipeline(folder, threshold=0.4).to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    component: Any = again.get_pipe("unmask")
    assert component.threshold == 0.4
    assert found(again(TEXT).ents) == found(pipeline(folder, threshold=0.4)(TEXT).ents)
