"""What is kept comes back, and the report's analysis of mistakes is that of the kept spans."""

import gzip

import pytest

from unmask.analysis.breakdown import gold_sentences
from unmask.data.sentence import Sentence, Span
from unmask.results.kept import Kept, has_sentences, keep_predictions, keep_sentences
from unmask.results.kept_mistakes import find_kept_mistakes
from unmask.results.mistake_tables import confusions_table, kinds_table, recall_table
from unmask.results.report import find_all, render_markdown, render_report

DATA = "0" * 16
WORDS = ("Zoë", "<b>", "met", "Bo", "Li")
GOLD = ("B-PER", "O", "O", "B-PER", "I-PER")
RIGHT = GOLD
WRONG_LABEL = ("B-LOC", "O", "O", "B-PER", "I-PER")
NOTHING = ("O",) * 5
SENTENCES = gold_sentences(
    [Sentence("s-1", WORDS, GOLD), Sentence("s-2", ("no", "one"), ("O", "O"))],
    [Sentence("t-1", ("Zoë",), ("B-PER",))],
)


@pytest.fixture
def swept(make_result, tmp_path):
    """Three configurations and an encoder over two seeds, tested; predictions kept."""
    predictions = {
        ("0000", 1): NOTHING,
        ("0000", 2): NOTHING,
        ("0011", 1): RIGHT,
        ("0011", 2): WRONG_LABEL,
        ("1111", 1): WRONG_LABEL,
        ("1111", 2): WRONG_LABEL,
        ("encoder", 1): RIGHT,
    }
    results = []
    for (code, seed), tags in predictions.items():
        f1 = {"0000": 0.1, "0011": 0.8, "1111": 0.5, "encoder": 0.9}[code] + 0.01 * seed
        backbone = "roberta" if code == "encoder" else "tiny"
        result = make_result(code, seed, f1, f1, backbone=backbone, num_sentences=2)
        results.append(result)
        folder = tmp_path / "runs" / result.run.id
        keep_predictions(folder, "test", [GOLD, ("O", "O")], [tags, ("O", "O")])
    keep_sentences(tmp_path, DATA, "test", SENTENCES)
    return results, Kept(tmp_path)


def mistakes_of(results, kept):
    [findings] = find_all(results)
    return find_kept_mistakes(findings, kept)


def test_spans_counts_and_sentences_come_back_as_they_were_kept(swept):
    results, kept = swept
    by_name = {(one.run.config, one.run.seed): one.run for one in results}
    run = by_name["0011", 2]
    assert kept.spans(run, "test") == [[Span(0, 1, "LOC"), Span(3, 5, "PER")], []]
    assert kept.counts(run, "test") == [(1, 2, 2), (0, 0, 0)]
    assert kept.sentences(DATA, "test") == SENTENCES


def test_what_was_not_kept_is_none(swept, make_result):
    results, kept = swept
    assert kept.spans(results[0].run, "validation") is None
    assert kept.counts(make_result(seed=9).run, "test") is None
    assert kept.sentences("1" * 16, "test") is None
    assert has_sentences(kept.folder, DATA, "test")
    assert not has_sentences(kept.folder, DATA, "validation")


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"{"), gzip.compress(b"{}")])
def test_damaged_files_are_named(swept, content):
    results, kept = swept
    path = kept.folder / "runs" / results[0].run.id / "spans.test.json.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"spans\.test\.json\.gz is damaged .*; delete it"):
        kept.spans(results[0].run, "test")


def test_the_same_predictions_are_kept_as_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        keep_predictions(tmp_path / name, "test", [GOLD], [WRONG_LABEL])
    files = [sorted((tmp_path / name).iterdir()) for name in ("a", "b")]
    assert [path.name for path in files[0]] == ["counts.test.json", "spans.test.json.gz"]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_mistakes_are_of_the_chosen_configuration_and_what_it_is_held_against(swept):
    found = mistakes_of(*swept)
    assert found is not None
    assert (found.split, found.chosen) == ("test", "0011")
    assert kinds_table(found).rows == [
        ("0011", "1.5", "0.0", "0.5", "0.0", "0.0"),
        ("0000", "0.0", "0.0", "0.0", "2.0", "0.0"),
        ("1111", "1.0", "0.0", "1.0", "0.0", "0.0"),
        ("roberta", "2", "0", "0", "0", "0"),
    ]
    confusions = confusions_table(found)
    assert confusions is not None
    assert confusions.rows == [("PER", "LOC", "0.5")]
    rows = {row[0]: row[1:] for row in recall_table(found).rows}
    assert rows["seen in training: yes"] == ("1", "0.500", "0.000", "0.000", "1.000")
    assert rows["seen in training: no"] == ("1", "1.000", "0.000", "1.000", "1.000")


def test_runs_that_do_not_count_do_not_come_in_by_their_spans(swept, make_result):
    results, kept = swept
    diverged = make_result("0011", 3, 0.8, 0.8, status="diverged")
    folder = kept.folder / "runs" / diverged.run.id
    keep_predictions(folder, "test", [GOLD, ("O", "O")], [NOTHING, ("O", "O")])
    [findings] = find_all([*results, make_result("0110", 1, 0.1, 0.1), diverged])
    # With a diverged seed it stands back, so look at the row itself.
    row = findings.row("0011")
    assert row is not None
    assert row.num_diverged == 1
    assert findings.chosen is not None
    assert findings.chosen.name == "1111"
    found = find_kept_mistakes(findings, kept)
    assert found is not None
    assert found.breakdowns["1111"].num_runs == 2


def test_the_page_shows_mistakes_with_every_word_escaped(swept):
    results, kept = swept
    page = render_report(find_all(results, kept))
    assert "The one sentence with mistakes of 0011 on test" in page
    assert '<mark class="wrong">Zoë<sub>LOC</sub></mark> &lt;b&gt; met' in page
    assert '<mark class="right">Bo Li<sub>PER</sub></mark>' in page
    assert "<b>met" not in page
    assert "s-1: 1 wrong in 2 runs" in page
    assert '<span class="who">seed 2</span>' in page
    assert "Recall by what the gold span is like" in page
    assert "Over 2 sentences: 95% interval" in page


def test_a_page_can_be_without_text_of_the_corpus(swept):
    results, kept = swept
    page = render_report(find_all(results, kept), with_sentences=False)
    assert "Spans on test by what became of them" in page
    assert "Zoë" not in page
    assert ">s-1:" not in page


def test_the_markdown_has_the_kinds_of_mistakes(swept):
    results, kept = swept
    text = render_markdown(find_all(results, kept))
    assert "| **0011** | **1.5** | **0.0** | **0.5** | **0.0** | **0.0** |" in text


def test_without_predictions_the_page_says_so(swept):
    results, _ = swept
    assert "No predictions were kept" in render_report(find_all(results))
