from __future__ import annotations

import copy
import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from unmask import UnmaskedForTokenClassification
from unmask.data import lookright

TEXT = "Velmora , a river in the north , froze early"


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler()


@pytest.fixture(scope="module")
def texts():
    return [" ".join(s.words) for s in lookright.generate(3, 40, 3, 3).train]


def test_one_method_takes_a_text_a_list_and_words(labeler):
    spans = labeler.predict(TEXT)
    assert spans
    assert labeler.predict([TEXT, TEXT]) == [spans, spans]
    (by_words,) = labeler.predict([TEXT.split()])
    assert [span["text"] for span in by_words] == [span["text"] for span in spans]
    assert all(TEXT[span["start"] : span["end"]] == span["text"] for span in spans)
    assert all(
        " ".join(TEXT.split()[s["word_start"] : s["word_end"]]) == s["text"] for s in by_words
    )


def test_a_stream_gives_what_the_list_gives_in_order(labeler, texts):
    streamed = list(labeler.predict_iter(iter(texts), read_ahead=7))
    for spans, expected in zip(streamed, labeler.predict(texts), strict=True):
        # Other batches round otherwise, so scores may differ in their last digits.
        assert [
            {**span, "score": pytest.approx(span["score"], abs=1e-5)} for span in spans
        ] == expected


def test_a_stream_is_read_no_further_ahead_than_asked(labeler):
    taken = []

    def endless():
        while True:
            taken.append(TEXT)
            yield TEXT

    stream = labeler.predict_iter(endless(), read_ahead=5)
    next(stream)
    assert len(taken) == 5


def test_words_of_a_long_stream_do_not_pile_up(labeler, monkeypatch):
    labeler.encoder._cache.clear()
    monkeypatch.setattr("unmask.data.alignment.MAX_CACHED_WORDS", 10)
    expected = [labeler.encoder.encode_word(f"word{n}") for n in range(50)]
    assert [labeler.encoder.encode_word(f"word{n}") for n in range(50)] == expected
    assert len(labeler.encoder._cache) <= 10


def test_a_threshold_leaves_out_spans_of_lower_score(labeler, texts):
    every = labeler.predict(texts)
    scores = sorted(span["score"] for spans in every for span in spans)
    middle = scores[len(scores) // 2]
    kept = [[span for span in spans if span["score"] >= middle] for spans in every]
    assert labeler.predict(texts, threshold=middle) == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 1.5}, "threshold is a probability from 0 to 1, got 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"on_truncation": "cut"}, "on_truncation must be one of window, error, warn, got 'cut'"),
        ({"format": "xml"}, "unknown format 'xml'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(labeler, settings, message):
    with pytest.raises(ValueError, match=message):
        labeler.predict(TEXT, **settings)


def test_an_input_that_is_no_text_is_refused(labeler):
    with pytest.raises(ValueError, match="input 3 is neither a text nor a list of words"):
        labeler.predict(["a", 3])


@pytest.mark.parametrize("inputs", [None, 3, b"a", {"text": "a"}, {"a", "b"}])
def test_inputs_that_are_no_list_are_refused(labeler, inputs):
    kind = type(inputs).__name__
    for predict in (labeler.predict, lambda given: list(labeler.predict_iter(given))):
        with pytest.raises(ValueError, match=f"a {kind} cannot be labelled: give a text, a list o"):
            predict(inputs)
    with pytest.raises(ValueError, match="is neither a text nor a list of words"):
        labeler.predict([inputs])


def test_a_stream_that_is_a_text_is_one_input(labeler):
    assert list(labeler.predict_iter(TEXT)) == [labeler.predict(TEXT)]


@pytest.mark.parametrize("item", ["ab \ud800", ["ab", "\ud800"]])
def test_half_a_surrogate_pair_is_refused(labeler, item):
    with pytest.raises(ValueError, match=r"half a surrogate pair, .* at character 3"):
        labeler.predict([item])


def test_long_input_is_read_in_windows_refused_or_cut_as_asked(random_labeler):
    labeler = random_labeler(max_subtokens=16)
    long = " ".join([TEXT] * 4)
    last = labeler.predict(long, overlap=4)[-1]
    assert last["end"] > len(TEXT) * 3
    message = "input 1: 33 of 40 words do not fit into 16 sub-tokens"
    with pytest.raises(ValueError, match=message):
        labeler.predict(["short", long], overlap=4, on_truncation="error")
    with pytest.warns(UserWarning, match=f"{message} and were left out"):
        short, cut = labeler.predict(["short", long], overlap=4, on_truncation="warn")
    assert cut[-1]["end"] < len(TEXT) * 2
    assert (cut.truncated, cut.num_words_left_out) == (True, 33)
    assert not short.truncated
    assert not labeler.predict(long, overlap=4).truncated


def test_spans_say_that_the_input_was_cut_in_other_formats_too(random_labeler):
    labeler = random_labeler(max_subtokens=16)
    with pytest.warns(UserWarning, match="were left out"):
        assert labeler.predict(" ".join([TEXT] * 4), 8, 4, None, "warn", format="hf").truncated


def test_input_that_fits_is_never_warned_of(labeler):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labeler.predict([TEXT, ""], on_truncation="warn")


def test_the_progress_bar_goes_to_stderr_and_changes_nothing(labeler, capsys):
    assert labeler.predict([TEXT], show_progress_bar=True) == labeler.predict([TEXT])
    assert capsys.readouterr().out == ""


def test_a_format_takes_the_place_of_the_spans(labeler):
    assert labeler.predict(TEXT, format="conll").startswith("Velmora ")
    both = labeler.predict([TEXT, TEXT.split()], format="brat")
    assert both[0] == both[1]


def test_calibration_changes_scores_but_no_single_words_tag_and_is_saved(random_labeler, tmp_path):
    labeler = random_labeler("0110", lookright.generate().labels)
    corpus = lookright.generate(3, 5, 60, 3)
    before = [p.argmax(-1) for p in labeler._score([_encode(labeler)])]
    found = labeler.calibrate(corpus.validation)
    assert found.nll[1] < found.nll[0]
    assert labeler.temperature == found.temperature != 1
    after = [p.argmax(-1) for p in labeler._score([_encode(labeler)])]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    labeler.save_pretrained(tmp_path)
    again = UnmaskedForTokenClassification.from_pretrained(tmp_path)
    assert again.temperature == labeler.temperature
    assert again.predict(TEXT) == labeler.predict(TEXT)


@pytest.mark.parametrize("value", [0, -1.0, "warm", float("inf")])
def test_a_saved_temperature_that_is_none_is_refused(labeler, tmp_path, value):
    labeler.save_pretrained(tmp_path)
    path = tmp_path / "unmask_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": value}))
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        UnmaskedForTokenClassification.from_pretrained(tmp_path)


def test_using_one_run_of_many_is_refused(load_random):
    from unmask import UnmaskConfig

    loaded = load_random()
    configs = [UnmaskConfig.from_code(code, 4) for code in ("00", "11")]
    stack = UnmaskedForTokenClassification(loaded, ["X"], configs, seeds=[1, 2])
    with pytest.raises(ValueError, match=r"predict\(\) serves one run, this model holds 2"):
        stack.predict("a")


def _encode(labeler):
    return labeler.encoder.encode_words(TEXT.split(), 64)


def test_evaluate_takes_sentences_records_and_data_sets_alike(labeler):
    from datasets import ClassLabel, Dataset, Features, List, Value

    from unmask.data.sentence import Sentence

    names = ClassLabel(names=list(labeler.tags))
    words = ["Velmora", "was", "flooded"]
    tags = [f"B-{labeler.labels[0]}", "O", "O"]
    sentences = [Sentence("1", tuple(words), tuple(tags))] * 3
    records = [{"tokens": words, "ner_tags": tags}] * 3
    features = Features({"tokens": List(Value("string")), "ner_tags": List(names)})
    numbered = [{"tokens": words, "ner_tags": names.str2int(tags)}] * 3
    expected = labeler.evaluate(sentences).scores
    assert expected["support"] == 3
    assert labeler.evaluate(records).scores == expected
    assert labeler.evaluate(Dataset.from_list(numbered, features=features)).scores == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there is no sentence to evaluate on"),
        (["Velmora"], r"evaluate\(\): 'Velmora' is no labelled sentence"),
        ([{"tokens": ["a"], "ner_tags": [1]}], r"evaluate\(\):1: tag 1 is a number without a name"),
    ],
)
def test_evaluate_refuses_what_is_not_labelled(labeler, given, message):
    with pytest.raises(ValueError, match=message):
        labeler.evaluate(given)


def test_a_deep_copy_computes_the_same_bit_for_bit_and_for_itself(labeler):
    tokens = torch.arange(5, 21).reshape(2, 8)
    expected = labeler(tokens).logits
    twin = copy.deepcopy(labeler)
    assert torch.equal(twin(tokens).logits, expected)
    short, long = (labeler.batch([[s]]) for s in encoded(labeler, "froze", "a river in the north"))
    with twin.route(short):
        alone = twin.hidden_states(short)
    # Inside a route of the first one, whose pack is another: what an average of weights would do.
    with labeler.route(long), twin.route(short):
        assert torch.equal(twin.hidden_states(short), alone)
    with torch.no_grad():
        twin.score_weight.add_(1)
    assert torch.equal(labeler(tokens).logits, expected)
    twin.release()
    assert torch.equal(labeler(tokens).logits, expected)


def encoded(labeler, *texts):
    return [labeler.encoder.encode_words(text.split(), 30) for text in texts]


def test_pickling_is_refused_with_what_to_do_instead(labeler):
    with pytest.raises(TypeError, match=r"labelers are not pickled: write one with save_pretrain"):
        pickle.dumps(labeler)


def test_threads_that_share_a_labeler_take_turns(labeler, texts):
    expected = [labeler.predict(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(labeler.predict, texts)) == expected


def test_autocast_changes_neither_predictions_nor_training(random_labeler):
    labeler = random_labeler()
    tokens, labels = torch.arange(5, 13)[None], torch.arange(8)[None] % 5

    def step(enabled):
        labeler.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            predicted, loss = labeler.predict(TEXT), labeler(tokens, labels=labels).loss
        loss.backward()
        return predicted, loss.item(), labeler.lora_layers[0][1].lora_B.grad.tolist()

    assert step(enabled=True) == step(enabled=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("PER", r"labels is the text 'PER': give a list, such as \['PER'\]"),
        (["O", "B-PER", "I-PER"], r'labels holds "O", which is a tag: give what the spans are cal'),
    ],
)
def test_what_is_no_list_of_labels_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        UnmaskedForTokenClassification.from_pretrained("tiny", labels=labels, unmask="0110")


def test_dtypes_and_devices_are_torchs_own_or_their_names():
    one, other = (
        UnmaskedForTokenClassification.from_pretrained(
            "tiny", ["A"], "0110", dtype=dtype, device=device
        )
        for dtype, device in ((torch.bfloat16, torch.device("cpu")), ("bfloat16", "cpu"))
    )
    assert one.loaded.dtype == other.loaded.dtype == torch.bfloat16
    assert one.device == other.device
