# ruff: noqa: E501, RUF001 (prompts stand on one line, full-width punctuation is meant)
from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
)
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import load_system
from unmask.instruct.seqgpt import SeqGPT
from unmask.instruct.seqgpt_labels import Draw, draw_labels, in_batches
from unmask.instruct.seqgpt_scoring import benchmark_sample
from unmask.instruct.seqgpt_tasks import TASKS, part_label

WORDS = ("Bush", "attacked", "Iraq")
BUSH = IEExample(
    "s1",
    "Bush attacked Iraq",
    WORDS,
    (
        Entity("Bush", "PER"),
        Entity("Iraq", "LOC"),
        Relation("Bush", "born in", "Iraq"),
        Event("attack", "attacked", (Argument("place", "Iraq"),)),
        Category("politics"),
        Answer("Iraq", "Where?"),
        Answer("Bush", "Who?", ("Bush", "Blair")),
    ),
)
NER = LabelSet(("PER", "LOC"))
ROLES = LabelSet(("attack", "die"), roles={"attack": ("place", "attacker"), "die": ("victim",)})


def prompts(example, labels, **settings):
    return [one.prompt() for one in SeqGPT(**settings).render(example, labels)]


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("NER", NER, "输入: Bush attacked Iraq\n抽取: person，location\n输出: [GEN]"),
        ("SF", NER, "输入: Bush attacked Iraq\n抽取: person，location\n输出: [GEN]"),
        ("MRC-SE", NER, "输入: Bush attacked Iraq\n抽取: Where?，Who?\n输出: [GEN]"),
        ("CLS", LabelSet(("politics", "sport")), "输入: Bush attacked Iraq\n分类: politics，sport\n输出: [GEN]"),
        ("MRC-MC", NER, "输入: Bush attacked Iraq\tWho?\n分类: Bush，Blair\n输出: [GEN]"),
        ("RE-EXT", LabelSet(("born in",)), "输入: Bush attacked Iraq\n抽取: the object of born in，the subject of born in\n输出: [GEN]"),
        ("RE-CLS", LabelSet(("born in",)), "输入: What is the relation between Bush and Iraq in Bush attacked Iraq?\n分类: born in\n输出: [GEN]"),
        ("EE-EXT", ROLES, "输入: Bush attacked Iraq\n抽取: attack event，the place of event attack，the attacker of event attack，die event，the victim of event die\n输出: [GEN]"),
        ("EE-CLS", ROLES, "输入: What is the event of attacked in Bush attacked Iraq?\n分类: attack，die\n输出: [GEN]"),
    ],
)  # fmt: skip
def test_prompts_are_byte_exact(task, labels, expected):
    assert prompts(BUSH, labels, use=task)[0] == expected


def test_typing_asks_about_every_mention_behind_a_tab():
    assert prompts(BUSH, NER, use="ET") == [
        f"输入: Bush attacked Iraq\t{mention}\n分类: person，location\n输出: [GEN]"
        for mention in ("Bush", "Iraq")
    ]


def test_a_pair_of_texts_is_joined_by_a_tab():
    pair = IEExample("n", "It rains.\tIt is wet.", items=(Category("entailment"),))
    asked = prompts(pair, LabelSet(("entailment", "neutral")), use="NLI")
    assert asked == ["输入: It rains.\tIt is wet.\n分类: entailment，neutral\n输出: [GEN]"]


def test_chinese_questions_are_byte_exact_and_end_as_the_mode_says():
    example = IEExample(
        "z", "他中弹身亡", items=(Event("死亡", "身亡"), Relation("他", "地点", "家")), lang="zh"
    )
    labels = LabelSet(("死亡",), roles={"死亡": ("地点",)})
    assert prompts(example, labels, use="EE-CLS") == [
        "输入: 他中弹身亡中身亡是什么事件?\n分类: 死亡\n输出: [GEN]"
    ]
    assert prompts(example, labels, use="EE-CLS", mode="official")[0].startswith(
        "输入: 他中弹身亡中身亡是什么事件？\n"
    )
    assert prompts(example, LabelSet(("地点",)), use="RE") == [
        "输入: 他中弹身亡\n抽取: 地点关系的宾语，地点关系的主语\n输出: [GEN]",
        "输入: 他中弹身亡中他和家的关系是什么?\n分类: 地点\n输出: [GEN]",
    ]
    assert part_label("role", "死亡", "zh", "地点") == "死亡事件的地点"


def test_the_english_frame_has_no_token_of_the_released_models():
    (query,) = SeqGPT(frame_lang="en").render(BUSH, NER)
    assert (
        query.prompt()
        == "Input: Bush attacked Iraq\nExtract: person, location\nOutput:".replace(", ", "，")
    )
    assert query.answer == " person: Bush\nlocation: Iraq\n"


def test_commas_of_labels_become_full_width_as_released_only():
    labels = LabelSet(("a,b", "c"), {"a,b": "a,b"})
    example = IEExample("s", "x", items=(Category("a,b"),))
    (query,) = SeqGPT(use="CLS", mode="official").render(example, labels)
    assert "分类: a，b，c\n" in query.prompt()
    assert SeqGPT().parse("a，b\n", query).items == (Category("a,b"),)
    assert "分类: a,b，c\n" in prompts(example, labels, use="CLS")[0]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("frame", ["en", "zh"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("explicit_none", [True, False])
def test_every_task_reads_back_what_it_writes(lang, frame, train, explicit_none):
    system = SeqGPT(
        use=",".join(TASKS),
        question_lang=lang,
        frame_lang=frame,
        explicit_none=explicit_none,
        collisions="raise",
    )
    labels = LabelSet(("PER", "LOC", "born in", "attack", "politics"), roles=ROLES.roles)
    queries = system.render(BUSH, labels, train=train)
    assert {query.task for query in queries} == set(TASKS)
    assert len({query.id for query in queries}) == len(queries)
    assert all(query.id.startswith("s1") for query in queries)


PAPER_EXAMPLES = [
    (
        "NER",
        ("program language", "country", "field", "task"),
        "field: artificial intelligence\n task: knowledge representation",
        {Entity("artificial intelligence", "field"), Entity("knowledge representation", "task")},
    ),
    (
        "EE-EXT",
        ("the Place of event Justice/Trial-Hearing", "Justice/Trial-Hearing event"),
        "the Place of event Justice/Trial-Hearing: here\n Justice/Trial-Hearing event: trial\tit",
        {
            Event("Justice/Trial-Hearing", None, (Argument("Place", "here"),)),
            Event("Justice/Trial-Hearing", "trial"),
            Event("Justice/Trial-Hearing", "it"),
        },
    ),
    ("CLS", ("法律/逮捕入狱", "生活/死亡"), "生活/死亡", {Category("生活/死亡")}),
    ("SF", ("歌曲名", "操作"), "歌曲名: 白龙马\n操作: 放", {Entity("白龙马", "歌曲名"), Entity("放", "操作")}),
    ("MRC-MC", ("rubbing it", "seeing it"), "rubbing it", {Answer("rubbing it", "which?")}),
    ("MRC-SE", ("a?", "b?"), "a?: None\nb?: yes", {Answer("yes", "b?")}),
    ("CLS", ("government", "authority"), "government, authority", {Category("government"), Category("authority")}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "labels", "output", "expected"), PAPER_EXAMPLES)
def test_answers_of_the_paper_are_read(task, labels, output, expected):
    (query, *_) = SeqGPT().render(BUSH, NER)
    query = replace(query, task=task, labels=labels, about="which?")
    result = SeqGPT().parse(output, query)
    assert (set(result.items), result.status) == (expected, "ok")


@pytest.mark.parametrize(
    ("output", "status", "items"),
    [
        ("", "empty", 0),
        ("person: None\nlocation: None\n", "empty", 0),
        ("person: 无", "empty", 0),
        ("planet: Mars", "malformed", 0),
        ("planet: Mars\nperson：Bush", "partial", 1),
        ("person: Bush\tBush", "ok", 1),
        ("I cannot say", "malformed", 0),
        ("person", "malformed", 0),
    ],
)
def test_extraction_tells_nothing_from_nonsense(output, status, items):
    (query,) = SeqGPT().render(BUSH, NER)
    result = SeqGPT().parse(output, query)
    assert (result.status, len(result.items)) == (status, items)


def test_the_longest_label_before_a_colon_is_taken():
    labels = LabelSet(("a", "a:b"), {"a": "a", "a:b": "a:b"})
    (query,) = SeqGPT().render(IEExample("s", "x"), labels)
    assert SeqGPT().parse("a:b: c", query).items == (Entity("c", "a:b"),)
    assert SeqGPT().parse("a: b: c", query).items == (Entity("b: c", "a"),)


@pytest.mark.parametrize("text", ["None", "a\tb", "a\nb", " a"])
def test_a_span_that_does_not_read_back_is_a_collision(text):
    example = IEExample("s", text, items=(Entity(text, "PER"),))
    (query,) = SeqGPT().render(example, NER)
    assert "reads back as" in query.collision
    assert SeqGPT(collisions="drop").render(example, NER) == []


def test_spans_that_are_not_in_the_text_are_dropped_on_request():
    (query,) = SeqGPT().render(BUSH, NER)
    result = SeqGPT(grounded=True).parse("person: Bush\tBlair", query)
    assert (result.items, result.status) == ((Entity("Bush", "person"),), "partial")


def test_labels_are_split_as_evenly_as_possible():
    numpy = pytest.importorskip("numpy")
    for number in range(1, 40):
        expected = [
            [str(one) for one in part] for part in numpy.array_split(range(number), -(-number // 6))
        ]
        assert [
            list(part) for part in in_batches([str(one) for one in range(number)], 6)
        ] == expected


def test_extraction_is_asked_in_batches_and_tags_are_joined():
    labels = LabelSet((*(f"x{index}" for index in range(6)), "PER", "LOC"))
    system = SeqGPT()
    queries = system.render(BUSH, labels)
    assert [len(query.labels) for query in queries] == [4, 4]
    answered = [(query, query.answer) for query in queries]
    assert system.tags(WORDS, answered, labels) == ("B-PER", "O", "B-LOC")
    assert system.evaluate(answered)["score"] == 1.0


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**6))
def test_drawn_labels_keep_to_their_bounds(num_gold, num_absent, seed):
    gold = [f"g{index}" for index in range(num_gold)]
    pool = gold + [f"a{index}" for index in range(num_absent)]
    positive, asked = draw_labels(
        pool, dict.fromkeys(gold), gold, Draw(3, 11, 21), random.Random(seed)
    )
    assert min(1, num_gold) <= len(positive) <= min(11, num_gold)
    negative = set(asked) - set(positive)
    assert min(1, num_absent) <= len(negative) <= min(21, num_absent)
    assert not negative & set(gold)
    assert len(set(asked)) == len(asked)


def test_wrong_labels_are_drawn_uniformly():
    stats = pytest.importorskip("scipy.stats")
    generator, counts = random.Random(0), Counter()
    pool = [f"a{index}" for index in range(20)]
    for _ in range(3000):
        _, asked = draw_labels(["g", *pool], {"g": ()}, ["g"], Draw(1, 1, 1), generator)
        counts.update(set(asked) - {"g"})
    assert stats.chisquare([counts[name] for name in pool]).pvalue > 0.001


def test_the_quota_holds_for_each_data_set_and_label_and_spares_small_label_sets():
    labels = LabelSet(("PER", "LOC"))
    examples = [
        IEExample(f"{name}{index}", "x", items=(Entity("x", "PER"), Category("PER")), dataset=name)
        for name in "ab"
        for index in range(20)
    ]
    queries = list(SeqGPT(quota=7).render_all(examples, labels, train=True))
    positive = Counter(
        (one.dataset, item.type)
        for one in queries
        for item in one.items
        if isinstance(item, Entity)
    )
    assert positive == {("a", "person"): 7, ("b", "person"): 7}
    assert len({one.id for one in queries}) == len(queries)
    spared = list(SeqGPT(quota=7, use="SA").render_all(examples, labels, train=True))
    assert len(spared) == 3 * 40


def test_wrong_labels_come_from_the_data_set_or_from_the_whole_task():
    examples = [
        IEExample("a", "x", items=(Entity("x", "cat"),), dataset="a"),
        IEExample("b", "x", items=(Entity("x", "dog"),), dataset="b"),
    ]
    seen = {}
    for source in ("dataset", "task"):
        system = SeqGPT(negatives_from=source)
        queries = list(system.render_all(examples, LabelSet(()), train=True))
        seen[source] = {name for one in queries if one.dataset == "a" for name in one.labels}
    assert seen == {"dataset": {"cat"}, "task": {"cat", "dog"}}


def test_training_is_the_same_for_the_same_seed_only():
    def ids(seed):
        rendered = SeqGPT(seed=seed).render(BUSH, LabelSet(tuple("abcdefgh")), train=True)
        return [one.labels for one in rendered]

    assert ids(0) == ids(0) != ids(1)


def test_relations_are_asked_for_the_pairs_found_first():
    system, labels = SeqGPT(use="RE-EXT"), LabelSet(("born in",))
    (query,) = system.render(BUSH, labels)
    follow = system.follow_ups(BUSH, labels, query, query.answer)
    assert [(one.task, one.about, one.items) for one in follow] == [
        ("RE-CLS", "Bush\tIraq", (Relation("Bush", "born in", "Iraq"),))
    ]
    wrong = "the object of born in: Blair\nthe subject of born in: Bush"
    assert [one.answer for one in system.follow_ups(BUSH, labels, query, wrong)] == ["None\n"]
    assert system.follow_ups(BUSH, labels, follow[0], "born in") == []


def test_events_are_asked_for_the_triggers_found_first():
    system = SeqGPT(use="EE-EXT")
    (query,) = system.render(BUSH, ROLES)
    follow = system.follow_ups(BUSH, ROLES, query, query.answer)
    assert [(one.about, one.items) for one in follow] == [
        ("attacked", (Event("attack", "attacked"),))
    ]


def test_the_score_is_the_mean_of_f1_and_rouge_over_atomic_tasks():
    system = SeqGPT(use="NER,CLS")
    labels = LabelSet(("PER", "LOC", "politics"))
    pairs = [(query, query.answer) for query in system.render(BUSH, labels)]
    assert system.evaluate(pairs)["score"] == 1.0
    result = system.evaluate([(query, "" if query.task == "CLS" else out) for query, out in pairs])
    assert (result["f1"], result["rouge"], result["score"]) == (0.5, 0.5, 0.5)
    assert system.evaluate([]) == {"f1": 0.0, "rouge": 0.0, "score": 0.0, "tasks": {}}


def test_benchmark_samples_48_records_of_each_data_set():
    examples = [IEExample(f"{n}{i}", "x", dataset=n) for n, size in (("a", 60), ("b", 5)) for i in range(size)]  # fmt: skip
    chosen = benchmark_sample(examples, SeqGPT())
    assert Counter(one.dataset for one in chosen) == {"a": 48, "b": 5}
    assert chosen == benchmark_sample(examples, SeqGPT())


def test_decoding_is_beam_search_and_the_script_adds_a_penalty():
    assert SeqGPT().decoding().num_beams == 4
    assert SeqGPT().decoding().max_new_tokens == 128
    assert SeqGPT(mode="official").decoding().repetition_penalty == 2.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"use": "NER,POS"}, r"unknown tasks \['POS'\]"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"frame_lang": "de"}, "frame_lang must be one of zh, en, got 'de'"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        load_system("seqgpt", **wrong)


def test_gold_answers_match_the_grammar():
    regex = pytest.importorskip("regex")
    system = SeqGPT(use="NER,CLS,RE-EXT")
    for query in system.render(BUSH, LabelSet(("PER", "LOC", "politics"))):
        assert regex.fullmatch(system.grammar(query).pattern, query.answer)


PIECES = st.lists(
    st.sampled_from(["person", "location", ":", "：", "\t", "\n", " ", "None", ",", "，", "a"])
    | st.text(max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.sampled_from(["NER", "CLS", "ET", "RE-EXT", "EE-EXT", "RE-CLS", "MRC-SE"]))
def test_no_answer_makes_the_reader_fail(pieces, task):
    (query,) = SeqGPT().render(BUSH, NER)
    result = SeqGPT().parse("".join(pieces), replace(query, task=task))
    assert not result.items or result.status in ("ok", "partial")
