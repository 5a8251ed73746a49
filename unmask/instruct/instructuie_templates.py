"""InstructUIE's instructions, prompts and answers, byte for byte as its released loader makes them.

Answers begin with one space, and "None" stands for nothing. The paper prints some instructions
with other punctuation; both wordings are kept, and the released one is what its weights know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unmask.instruct.examples import Argument, Event

TASKS = ("NER", "RE", "EE", "ES", "ET", "EP", "EPR", "EET", "EEA")
NONE = " None"
APOSTROPHE = "#$%#"
"""What the released loader writes for an apostrophe in types and triggers of events."""

_TYPED = 'Output format is "type1: word1; type2: word2".'
_RELATIONS = '"relation1: word1, word2; relation2: word3, word4".'

INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "NER": (
        f"Please list all entity words in the text that fit the category.{_TYPED}",
        f"Please find all the entity words associated with the category in the given text.{_TYPED}",
        f"Please tell me all the entity words in the text that belong to a given category.{_TYPED}",
    ),
    "RE": (
        "Given a phrase that describes the relationship between two words, extract the words and "
        "the lexical relationship between them. The output format should be " + _RELATIONS,
        "Find the phrases in the following sentences that have a given relationship. "
        "The output format is " + _RELATIONS,
        "Given a sentence, please extract the subject and object containing a certain relation in "
        "the sentence according to the following relation types, in the format of " + _RELATIONS,
    ),
    "EE": (
        "Locate the role in the text that participated in the event based on the event type and "
        "return it in the event list.",
        "Extract the event information in the text and return them in the event list.",
    ),
    "ES": (
        "Please list all entity words in the text that fit the category. "
        'Output format is "word1, word2".',
    ),
    "ET": (
        "Given options, please tell me the categories of all the listed entity words." + _TYPED,
    ),
    "EP": (
        "Please list all entity pairs containing a certain relationship in the given options."
        'Output format is "word1, word2; word3, word4".',
    ),
    "EPR": (
        "Given options, please tell me the relationships of all the listed entity pairs."
        "Output format is " + _RELATIONS,
    ),
    "EET": (
        "Please tell me event type and its trigger word from given type options. "
        'Output format is "type: trigger".',
    ),
    "EEA": (
        "Given event type and trigger, please tell me the arguments of all the listed option. "
        'Output format is "name1: role1; name2: role2".',
    ),
}
"""The released wording, the first of each being that of the `single` strategy."""

_IN_PAPER = {
    "ES": ('"word1, word2".', "word1, word2."),
    "EEA": ('"name1: role1; name2: role2".', '"name: role".'),
    "EET": ('"type: trigger".', '"event type: trigger".'),
    "NER": (f".{_TYPED}", f". {_TYPED}"),
}


def instruction(task: str, index: int, as_in_paper: bool) -> str:
    """The wording of a task, as released or as the paper's Table 8 prints it."""
    text = INSTRUCTIONS[task][index]
    return text.replace(*_IN_PAPER[task]) if as_in_paper and task in _IN_PAPER else text


def prompt(
    wording: str,
    task: str,
    options: Sequence[str],
    text: str,
    extra: str = "",
    roles: Sequence[str] = (),
) -> str:
    """The whole input.

    Args:
        wording: of `instruction`.
        task: one of TASKS.
        options: natural names of types.
        text: the sentence.
        extra: listed entities (ET), listed pairs (EPR) or the event type (EEA).
        roles: roles of arguments (EE, EEA).
    """
    before = f"{wording} \nOption: {', '.join(options)}"
    after = ""
    if task == "EE":
        before = f"{wording} \n Option: Event type: {list(options)}, Arguments type: {list(roles)}."
    elif task == "EET":
        before = f"{wording}  Option: {', '.join(options)}"
    elif task == "EEA":
        before = f"{wording} \nEvent type: {extra} \n  Option: {', '.join(roles)}"
    elif task == "ET":
        after = f" Entities: {extra} \n"
    elif task == "EPR":
        after = f" Entity Pairs: {extra} \n"
    return f"{before} \nText: {text} \n{after}Answer:"


def released_prompt(
    wording: str,
    task: str,
    options: Sequence[str],
    text: str,
    extra: str = "",
    roles: Sequence[str] = (),
) -> str:
    """As `prompt`, with the released fault: a brace in a label or listed entity loses the text.

    The released loader fills the text in with `str.format`, and keeps the unfilled frame when
    that fails.
    """
    frame = prompt(wording, task, options, "{0}", extra, roles)
    try:
        return frame.format(text)
    except (ValueError, LookupError, AttributeError):
        return frame


def answer(pieces: Iterable[str], separator: str = "; ") -> str:
    """Pieces after a leading space, or " None".

    >>> answer(["person: Bush", "location: Iraq"]), answer([])
    (' person: Bush; location: Iraq', ' None')
    """
    found = list(pieces)
    return " " + separator.join(found) if found else NONE


def events_answer(events: Sequence[Event], role_first: bool) -> str:
    """Events with their arguments, each in brackets with a space on either side.

    >>> events_answer([Event("attack", "hit", (Argument("place", "Iraq"),))], role_first=False)
    ' ( attack: hit,  Iraq: place) '
    """
    if not events:
        return NONE
    return ",".join(
        f" ( {event.type}: {event.trigger}, {_arguments(event.arguments, role_first)}) "
        for event in events
    )


def _arguments(arguments: Sequence[Argument], role_first: bool) -> str:
    if not arguments:
        return "None"
    return ",".join(
        f" {one.role}: {one.text}" if role_first else f" {one.text}: {one.role}"
        for one in arguments
    )
