"""Vectors of the released loader (byte-exact) and of the released evaluator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.instruct import instructuie_official as official
from unmask.instruct.examples import Argument, Entity, Event, IEExample, Relation
from unmask.instruct.instructuie import InstructUIE
from unmask.instruct.labels import LabelSet

SENTENCE = "Bush attacked Iraq ."
BUSH, IRAQ = Entity("Bush", "person"), Entity("Iraq", "location")
WORKS = Relation("Bush", "works for", "Iraq")
ATTACK = Event("attack", "attacked", (Argument("place", "Iraq"), Argument("attacker", "Bush")))

NER = LabelSet(("person", "location"))
RE = LabelSet(("works for", "born in"))
EE = LabelSet(("attack", "die"), roles={"attack": ("place", "attacker")})
LABELS = {"NER": NER, "ES": NER, "ET": NER, "RE": RE, "EP": RE, "EPR": RE}


def query_of(task: str, *items, mode="official", labels=None, text=SENTENCE, **settings):
    example = IEExample("e", text, items=items, dataset="ace")
    (query,) = InstructUIE(mode=mode, use=task, **settings).render(
        example, labels or LABELS.get(task, EE)
    )
    return query


VECTORS = {
    "NER": (
        (BUSH, IRAQ),
        "Please list all entity words in the text that fit the category.Output format is "
        '"type1: word1; type2: word2". \nOption: person, location \nText: Bush attacked Iraq . \n'
        "Answer:",
        " person: Bush; location: Iraq",
    ),
    "ES": (
        (BUSH, IRAQ),
        "Please list all entity words in the text that fit the category. Output format is "
        '"word1, word2". \nOption: person, location \nText: Bush attacked Iraq . \nAnswer:',
        " Bush, Iraq",
    ),
    "ET": (
        (BUSH, IRAQ),
        "Given options, please tell me the categories of all the listed entity words.Output format "
        'is "type1: word1; type2: word2". \nOption: person, location \nText: Bush attacked Iraq . '
        "\n Entities: Bush, Iraq \nAnswer:",
        " person: Bush; location: Iraq",
    ),
    "RE": (
        (WORKS, Relation("A", "NA", "B")),
        "Given a phrase that describes the relationship between two words, extract the words and "
        "the lexical relationship between them. The output format should be "
        '"relation1: word1, word2; relation2: word3, word4". \nOption: works for, born in \n'
        "Text: Bush attacked Iraq . \nAnswer:",
        " works for: Bush, Iraq",
    ),
    "EP": (
        (WORKS,),
        "Please list all entity pairs containing a certain relationship in the given options."
        'Output format is "word1, word2; word3, word4". \nOption: works for, born in \n'
        "Text: Bush attacked Iraq . \nAnswer:",
        " Bush, Iraq",
    ),
    "EPR": (
        (WORKS,),
        "Given options, please tell me the relationships of all the listed entity pairs.Output "
        'format is "relation1: word1, word2; relation2: word3, word4". \nOption: works for, born '
        "in \nText: Bush attacked Iraq . \n Entity Pairs:  Bush, Iraq \nAnswer:",
        " works for: Bush, Iraq",
    ),
    "EE": (
        (ATTACK,),
        "Locate the role in the text that participated in the event based on the event type and "
        "return it in the event list. \n Option: Event type: ['attack', 'die'], Arguments type: "
        "['place', 'attacker']. \nText: Bush attacked Iraq . \nAnswer:",
        " ( attack: attacked,  Iraq: place, Bush: attacker) ",
    ),
    "EET": (
        (ATTACK,),
        "Please tell me event type and its trigger word from given type options. Output format is "
        '"type: trigger".  Option: attack, die \nText: Bush attacked Iraq . \nAnswer:',
        " attack: attacked",
    ),
    "EEA": (
        (ATTACK,),
        "Given event type and trigger, please tell me the arguments of all the listed option. "
        'Output format is "name1: role1; name2: role2". \nEvent type: attack \n  Option: place, '
        "attacker \nText: Bush attacked Iraq . \nAnswer:",
        " Iraq: place; Bush: attacker",
    ),
}


@pytest.mark.parametrize("task", VECTORS)
def test_prompts_and_answers_have_the_released_bytes(task):
    items, prompt, target = VECTORS[task]
    query = query_of(task, *items)
    assert query.prompt() == prompt
    assert query.answer == target
    assert query.collision == ""


def test_the_released_truth_keeps_pairs_without_a_relation():
    query = query_of("RE", *VECTORS["RE"][0])
    assert query.ground_truth == " works for: Bush, Iraq; NA: A, B"
    assert query_of("RE", Relation("A", "NA", "B")).answer == " None"


@pytest.mark.parametrize("task", ["NER", "ES", "ET", "RE", "EP", "EE", "EET"])
def test_nothing_is_none(task):
    query = query_of(task)
    assert query.answer == " None"
    assert InstructUIE().parse(query.answer, query).status == "empty"


def test_no_entities_leave_their_line_empty():
    assert "\n Entities:  \nAnswer:" in query_of("ET").prompt()


def test_an_event_without_arguments_says_none():
    assert query_of("EE", Event("die", "killed")).answer == " ( die: killed, None) "
    assert query_of("EEA", Event("attack", "hit")).answer == " None"


def test_events_follow_each_other_after_a_comma():
    query = query_of("EE", Event("die", "killed"), ATTACK)
    assert query.answer == (
        " ( die: killed, None) , ( attack: attacked,  Iraq: place, Bush: attacker) "
    )
    assert query.collision == ""


def test_in_the_paper_roles_stand_first():
    query = query_of("EE", ATTACK, mode="paper")
    assert query.answer == " ( attack: attacked,  place: Iraq, attacker: Bush) "
    assert query.collision == ""


@pytest.mark.parametrize(
    ("task", "items", "ending"),
    [
        ("NER", (), 'the category. Output format is "type1: word1; type2: word2".'),
        ("ET", (), 'entity words.Output format is "type1: word1; type2: word2".'),
        ("ES", (), "the category. Output format is word1, word2."),
        ("EEA", (ATTACK,), 'option. Output format is "name: role".'),
        ("EET", (), 'options. Output format is "event type: trigger".'),
    ],
)
def test_the_wording_of_the_paper_differs_in_five_places(task, items, ending):
    prompt = query_of(task, *items, wording="paper").prompt()
    assert prompt.split(" \n")[0].split("  Option")[0].endswith(ending)


def test_task_and_data_set_may_be_named():
    prompt = query_of("NER", name_task=True, name_dataset=True).prompt()
    assert prompt.startswith("Task:NER\nDataset:ace\nPlease list all entity words")


def test_multiple_wordings_are_all_used():
    system = InstructUIE(strategy="multiple")
    examples = [IEExample(str(i), "x") for i in range(40)]
    starts = {q.prompt().split(".")[0] for q in system.render_all(examples, NER)}
    assert len(starts) == 3


def test_braces_in_the_text_are_harmless_and_in_a_label_lose_it_as_released():
    assert "Text: a {b} {} c \n" in query_of("NER", text="a {b} {} c").prompt()
    odd = LabelSet(("x",), {"x": "set {y}"})
    assert "Text: {0} \nAnswer:" in query_of("NER", labels=odd).prompt()
    assert f"Text: {SENTENCE} \nAnswer:" in query_of("NER", labels=odd, mode="paper").prompt()


def test_a_released_apostrophe_is_never_restored():
    query = query_of("EET", Event("die", "'s death"))
    assert query.answer == " die: #$%#s death"
    assert query.collision
    assert query_of("EET", Event("die", "'s death"), mode="paper").answer == " die: 's death"


def test_untyped_entities_are_left_out_but_for_the_released_fault():
    items = (BUSH, Entity("Texas", "NA"))
    assert query_of("NER", *items).answer == " person: Bush"
    assert query_of("ES", *items).answer == " Bush, Texas"
    assert query_of("ES", *items, mode="paper").answer == " Bush"


@pytest.mark.parametrize(
    ("output", "items", "status"),
    [
        ("None", [], "empty"),
        (" no relation ", [], "empty"),
        ("", [], "empty"),
        ("Person: Bush;", [BUSH], "ok"),
        ("person: Bush; planet: Mars", [BUSH], "partial"),
        ("planet: Mars", [], "malformed"),
        ("Bush", [], "malformed"),
        ("person: a: b", [Entity("a: b", "person")], "ok"),
    ],
)
def test_entities_are_read(output, items, status):
    result = InstructUIE().parse(output, query_of("NER"))
    assert (list(result.items), result.status) == (items, status)


def test_the_longest_label_wins():
    query = query_of("NER", labels=LabelSet(("x", "y"), {"x": "unit", "y": "unit: metric"}))
    assert InstructUIE().parse("unit: metric: m", query).items == (Entity("m", "unit: metric"),)


def test_a_comma_in_an_argument_is_settled_by_the_text():
    text = "He was born in Austin , Texas and lives in Paris"
    query = query_of("RE", text=text)
    (found,) = InstructUIE().parse("born in: He, Austin , Texas", query).items
    assert found == Relation("He", "born in", "Austin , Texas")
    assert InstructUIE().parse("born in: He", query).status == "malformed"


@pytest.mark.parametrize(
    "output",
    [
        "( attack: attacked,  Iraq: place, Bush: attacker)",
        "attack: attacked,  Iraq: place, Bush: attacker)",
        "( attack: attacked,  Iraq: place, Bush: attacker",
    ],
)
def test_a_missing_bracket_is_no_matter(output):
    query = query_of("EE")
    assert InstructUIE(mode="official").parse(output, query).items == (ATTACK,)


def test_an_argument_may_hold_commas_and_brackets():
    event = Event("attack", "hit", (Argument("place", "Mosul (north), Iraq"),))
    for mode in ("paper", "official"):
        assert query_of("EE", event, mode=mode).collision == ""


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("( attack: hit)", "partial"),
        ("( attack: hit, Iraq: planet)", "partial"),
        ("( explode: hit, None)", "malformed"),
        ("( attack)", "malformed"),
        (")(", "malformed"),
    ],
)
def test_odd_events_are_counted(output, status):
    assert InstructUIE(mode="official").parse(output, query_of("EE")).status == status


names = st.text("ab ,;:()'", min_size=1, max_size=8)


@given(st.lists(st.tuples(names, st.sampled_from(("person", "location"))), max_size=4))
def test_entities_come_back_or_are_reported(pairs):
    items = [Entity(text, kind) for text, kind in pairs]
    query = query_of("NER", *items, mode="paper")
    back = list(InstructUIE().parse(query.answer, query).items)
    assert query.collision or sorted(map(repr, back)) == sorted(map(repr, items))
    if not any(letter in text for text, _ in pairs for letter in ";") and all(
        text == text.strip() for text, _ in pairs
    ):
        assert not query.collision or not items


@pytest.mark.parametrize(
    ("task", "pairs", "hits", "false", "missed"),
    [
        ("NER", [(" None", "None")] * 9 + [(" person: a", "None")], 9, 1, 1),
        ("NER", [(" person: a; person: a", "person: a; person: a")], 1, 0, 0),
        ("NER", [(" None", "")], 0, 1, 1),
        ("NER", [(" location: x", " located: x")], 1, 0, 0),
        ("RE", [(" None", "None")], 0, 0, 0),
        ("RE", [(" NA: A, B", "None")], 0, 0, 1),
        ("RE", [(" NA: A, B", "NA: A, B")], 1, 0, 0),
        (
            "RE",
            [(" works for: A, B; born in: C, D", "born in: C , D; works for: A, X")],
            1,
            1,
            1,
        ),
        ("EEA", [(" Iraq: place; Bush: attacker", "bush: attacker")], 1, 0, 1),
    ],
)
def test_the_released_evaluator(task, pairs, hits, false, missed):
    score = official.evaluate(task, pairs)
    counts = (
        score["hits"],
        score["num_predicted"] - score["hits"],
        score["num_gold"] - score["hits"],
    )
    assert counts == (hits, false, missed)


def test_the_none_fault_makes_ninety_percent_of_nothing():
    pairs = [(" None", "None")] * 9 + [(" person: a", "None")]
    assert official.evaluate("NER", pairs)["f1"] == pytest.approx(0.9)
    fixed = official.evaluate("NER", pairs, fix_none=True)
    assert (fixed["hits"], fixed["num_predicted"], fixed["num_gold"]) == (0, 0, 1)
    queries = [query_of("NER") for _ in range(9)] + [query_of("NER", Entity("a", "person"))]
    answered = [(query, "None") for query in queries]
    assert InstructUIE(mode="official").evaluate(answered)["f1"] == pytest.approx(0.9)
    assert InstructUIE(mode="official", fix_none=True).evaluate(answered)["f1"] == 0.0
    assert InstructUIE().evaluate(answered)["f1"] == 0.0


def test_released_event_triggers_are_compared_as_one_string():
    pair = (" attack: war; die: killed", "die: killed; attack: war")
    assert official.evaluate("EET", [pair])["accuracy"] == 0.0
    assert official.evaluate("EET", [(pair[0], pair[0])])["accuracy"] == 1.0


def test_released_events_are_whole_records_in_any_order_of_arguments():
    gold = " ( attack: war,  Iraq: place, Bush: attacker) "
    swapped = "( attack: war, Bush: attacker, Iraq: place)"
    less = "( attack: war, Bush: attacker)"
    assert official.evaluate("EE", [(gold, swapped)])["accuracy"] == 1.0
    assert official.evaluate("EE", [(gold, less)])["accuracy"] == 0.0


@pytest.mark.parametrize("task", VECTORS)
@pytest.mark.parametrize("mode", ["paper", "official"])
def test_gold_scores_one(task, mode):
    items = tuple(item for item in VECTORS[task][0] if item != Relation("A", "NA", "B"))
    query = query_of(task, *items, mode=mode)
    assert InstructUIE(mode=mode).evaluate([(query, query.answer)])["f1"] == 1.0


def test_in_the_paper_triggers_and_arguments_are_scored_apart():
    query = query_of("EE", ATTACK, mode="paper")
    scores = InstructUIE().evaluate([(query, "( attack: attacked, place: Iraq)")])["tasks"]["EE"]
    assert (scores["f1"], scores["arguments"]["recall"]) == (1.0, 0.5)


def test_the_report_is_the_mean_over_data_sets():
    assert official.report({"a": {"f1": 1.0}, "b": {"f1": 0.5}}) == 0.75


def test_odd_predictions_are_counted():
    gold = " person: Bush; location: Iraq"
    pairs = [
        (gold, ""),
        (" None", " None"),
        (gold, "person: hallohallohallo"),
        (" None", "x" * 600),
        (gold, "person: Bush; location: Iraq"),
        (gold, "place: Iraq"),
    ]
    options = [("person", "location")] * len(pairs)
    assert official.audit("NER", pairs, [SENTENCE] * len(pairs), options) == {
        "void": 1,
        "long": 1,
        "repeated": 2,
        "both_none": 1,
        "truth_none": 1,
        "prediction_none": 1,
        "unparsed": 1,
        "unknown_label": 1,
        "unfaithful": 1,
    }


def test_long_answers_are_cut_as_released_only():
    assert InstructUIE(mode="official").decoding().max_new_tokens == 50
    assert InstructUIE().decoding().max_new_tokens == 256


EXAMPLES = [IEExample(str(i), "x", dataset="ab"[i % 2]) for i in range(40)]


def test_at_most_so_many_examples_of_a_data_set_are_trained_on():
    released = InstructUIE(mode="official", max_per_dataset=3).sample(EXAMPLES)
    assert [example.id for example in released] == ["0", "1", "2", "3", "4", "5"]
    drawn = [example.id for example in InstructUIE(max_per_dataset=3).sample(EXAMPLES)]
    assert len(drawn) == 6
    assert drawn != [example.id for example in released]
    assert len(list(InstructUIE(max_per_dataset=3).render_all(EXAMPLES, NER))) == 40


def test_auxiliary_queries_are_thinned_as_released():
    many = [IEExample(str(i), "x") for i in range(1000)]
    for mode, low, high in [("official", 250, 350), ("paper", 1000, 1000)]:
        queries = InstructUIE(mode=mode, use="NER,ES").render_all(many, NER, train=True)
        tasks = [query.task for query in queries]
        assert tasks.count("NER") == 1000
        assert low <= tasks.count("ES") <= high


def test_unknown_tasks_are_refused():
    with pytest.raises(ValueError, match=r"use names unknown tasks \['POS'\]; choose of NER, RE"):
        InstructUIE(use="NER,POS")
