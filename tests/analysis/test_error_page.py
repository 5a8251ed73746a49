"""The page of mistakes says what the report says, and shows text as text."""

import re

from unmask.analysis.error_page import render_error_page
from unmask.analysis.mistakes import find_mistakes
from unmask.analysis.scoring import score
from unmask.data.sentence import Sentence

SENTENCES = [
    Sentence("a", ("<b>", "in", "Oslo"), ("B-PER", "O", "B-LOC")),
    Sentence("b", ("Old", "Oslo", "&", "I"), ("B-LOC", "I-LOC", "O", "O")),
]
PREDICTED = [["B-LOC", "O", "B-LOC"], ["O", "B-LOC", "O", "B-PER"]]


def page() -> str:
    gold = [sentence.tags for sentence in SENTENCES]
    report = find_mistakes(SENTENCES, PREDICTED, train=SENTENCES[:1])
    return render_error_page(SENTENCES, PREDICTED, score(gold, PREDICTED), report, "<title>")


def rows(html: str) -> list[list[str]]:
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.split("<tr>", html)]


def test_scores_confusions_and_recall_are_those_of_the_report():
    found = rows(page())
    assert ["all (micro)", "0.2500", "0.3333", "0.2857", "3"] in found
    assert ["gold \\ predicted", "LOC", "PER", "nothing, or other bounds"] in found
    assert ["PER", "1", "0", "0"] in found
    assert ["LOC", "1", "0", "1"] in found
    assert ["in training: seen", "0.500", "1 of 2"] in found
    assert ["length: 2 words", "0.000", "0 of 1"] in found
    assert ["begins in: last third", "1.000", "1 of 1"] in found


def test_words_and_titles_are_escaped():
    html = page()
    assert "<h1>&lt;title&gt;</h1>" in html
    assert "<mark>&lt;b&gt; <small>PER</small></mark> in" in html
    assert "<b>" not in html
    assert "Old <mark>Oslo <small>LOC</small></mark> &amp; <mark>I" in html


def test_nothing_is_fetched_from_anywhere():
    assert not re.search(r"https?://|src=|@import", page())
