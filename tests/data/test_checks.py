import pytest

from unmask.data.checks import NUM_SHOWN, Finding, check_corpus
from unmask.data.sentence import Corpus, Sentence


def sentence(place, text, *tags):
    words = tuple(text.split(" "))
    return Sentence(place, words, tags or ("O",) * len(words))


@pytest.fixture
def corpus():
    return Corpus(
        "mine",
        train=(
            sentence("train.txt:1", "Ann Lee left", "B-PER", "I-PER", "O"),
            sentence("train.txt:5", "so did Bo", "O", "I-LOC", "B-PER"),
        ),
        validation=(sentence("dev.txt:1", "Rome  fell", "B-LOC", "I-PER", "O"),),
        test=(
            sentence("test.txt:1", "Ann Lee left", "B-PER", "I-PER", "O"),
            sentence("test.txt:9", "so did Bo"),
        ),
        labels=("LOC", "MISC", "PER"),
        notes=("a note of the reader",),
    )


def test_counts_are_strict(corpus):
    train, validation, test = check_corpus(corpus).counts
    assert (train.num_sentences, train.num_words, train.longest) == (2, 6, 3)
    assert train.spans == {"PER": 2}
    assert validation.spans == {"LOC": 1}
    assert test.spans == {"PER": 1}


def test_invalid_tags_name_line_and_word(corpus):
    assert check_corpus(corpus).invalid_tags == (
        Finding("train.txt:5", "word 2 ('did'): I-LOC after O belongs to no entity"),
        Finding("dev.txt:1", "word 2 (''): I-PER after B-LOC belongs to no entity"),
    )


def test_blank_words_are_found(corpus):
    report = check_corpus(corpus)
    assert report.blank_words == (Finding("dev.txt:1", "word 2 is ''"),)
    assert report.num_broken == 3


def test_duplicates_between_splits_say_whether_tags_agree(corpus):
    assert check_corpus(corpus).duplicates == (
        Finding(
            "test.txt:1",
            "this test sentence is also in train at train.txt:1, with the same tags: Ann Lee left",
        ),
        Finding(
            "test.txt:9",
            "this test sentence is also in train at train.txt:5, with OTHER TAGS: so did Bo",
        ),
    )


def test_duplicates_within_a_split_are_no_leak():
    twice = (sentence("a:1", "x"), sentence("a:3", "x"))
    assert check_corpus(Corpus("c", twice, (), (), ())).duplicates == ()


def test_labels_that_only_one_split_has(corpus):
    assert check_corpus(corpus).lonely_labels == (
        Finding("LOC", "occurs in validation only"),
        Finding("MISC", "occurs in no split"),
    )


def test_lengths_count_words_or_what_the_caller_counts(corpus):
    assert check_corpus(corpus).over_long == ()
    by_words = check_corpus(corpus, max_subtokens=2)
    assert [finding.place for finding in by_words.over_long] == [
        *("train.txt:1", "train.txt:5", "dev.txt:1", "test.txt:1", "test.txt:9")
    ]
    by_letters = check_corpus(corpus, 9, lambda words: sum(map(len, words)))
    assert by_letters.over_long == (
        Finding("train.txt:1", "10 sub-tokens, more than the 9 sub-tokens that fit"),
        Finding("test.txt:1", "10 sub-tokens, more than the 9 sub-tokens that fit"),
    )


def test_text_says_everything_in_words(corpus):
    text = check_corpus(corpus).to_text()
    assert text.splitlines()[:4] == [
        "Corpus mine",
        "  a note of the reader",
        "train: 2 sentences, 6 words (longest sentence 3), 2 spans: PER 2",
        "validation: 1 sentences, 3 words (longest sentence 3), 1 spans: LOC 1",
    ]
    assert "tags that break IOB2: 2\n  train.txt:5: word 2 ('did'): I-LOC after O" in text
    assert "sentences that are too long: none" in text


def test_text_stops_after_some_findings_and_counts_the_rest():
    many = tuple(sentence(f"train.txt:{i}", "x", "I-X") for i in range(NUM_SHOWN + 3))
    text = check_corpus(Corpus("c", many, (), (), ("X",))).to_text()
    assert f"tags that break IOB2: {NUM_SHOWN + 3}" in text
    assert text.count("belongs to no entity") == NUM_SHOWN
    assert "  and 3 more" in text
    assert "validation: empty" in text


def test_sound_corpus_has_nothing_broken():
    report = check_corpus(Corpus("c", (sentence("t:1", "a b", "B-X", "O"),), (), (), ("X",)))
    assert report.num_broken == 0
