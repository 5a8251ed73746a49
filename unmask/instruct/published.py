"""Published scores, to hold one's own against. Percent, micro F1, as printed.

Cells that contradict others are kept as printed; `tests/instruct/test_published.py` names them.
"""

from __future__ import annotations

ZERO_SHOT_SETS = ("movie", "restaurant", "ai", "literature", "music", "politics", "science")

UNINER_ZERO_SHOT: dict[str, tuple[tuple[float, ...], float]] = {
    "UniNER-7B": ((42.4, 31.7, 53.5, 59.4, 65.0, 60.8, 61.1), 53.4),
    "UniNER-13B": ((48.7, 36.2, 54.2, 60.9, 64.5, 61.4, 63.5), 55.6),
    "ChatGPT": ((5.3, 32.8, 52.4, 39.8, 66.6, 68.5, 67.0), 47.5),
    "UniNER-7B, supervised only": ((54.2, 16.0, 62.3, 67.4, 69.0, 64.5, 66.9), 57.2),
    "UniNER-7B, both": ((59.4, 31.2, 62.6, 64.0, 66.6, 66.3, 69.8), 60.0),
    "UniNER-7B, both (later version)": ((61.2, 35.2, 62.9, 64.9, 70.6, 66.9, 70.8), 61.8),
}
"""UniversalNER, Table 2: scores on ZERO_SHOT_SETS, and the printed average."""

UNINER_PARTIAL: dict[str, tuple[float, ...]] = {
    "UniNER-7B": (46.9, 40.3, 57.7, 62.7, 62.9, 63.2, 63.3),
    "UniNER-7B, both": (63.9, 35.9, 66.5, 66.5, 69.6, 68.6, 72.7),
    "ChatGPT": (5.9, 40.1, 55.7, 42.8, 70.2, 71.7, 70.1),
}
"""UniversalNER, Table 5: partial scores on ZERO_SHOT_SETS."""

UNINER_NEGATIVES = {"none": 31.5, "uniform": 47.7, "frequency": 53.4}
"""UniversalNER, Table 4: average zero-shot score of UniNER-7B by strategy."""

INSTRUCTUIE_NER: dict[str, float] = {
    "broad twitter": 83.14,
    "CoNLL03": 92.94,
    "FabNER": 76.20,
    "FindVehicle": 89.47,
    "GENIA": 74.71,
    "HarveyNER": 88.79,
    "MIT Movie": 89.01,
    "MIT Restaurant": 82.55,
    "MultiNERD": 92.32,
    "ncbi": 90.23,
    "OntoNotes": 90.19,
    "polyglot": 70.15,
    "tweetNER7": 64.97,
    "wikiann": 85.13,
    "wikineural": 91.36,
    "bc5cdr": 89.59,
    "ACE05": 86.66,
    "AnatEM": 90.89,
    "bc2gm": 85.16,
    "bc4chemd": 90.30,
}
"""InstructUIE, supervised NER; every score carries the NONE fault of its evaluator."""

INSTRUCTUIE_NER_AVERAGE = 85.19
INSTRUCTUIE_NER_AVERAGE_REEVALUATED = 81.16
"""By UniversalNER, without the fault."""

INSTRUCTUIE_RE: dict[str, float] = {
    "ADE": 82.31,
    "CoNLL04": 78.48,
    "GIDS": 81.98,
    "kbp37": 36.14,
    "NYT": 90.47,
    "NYT11": 56.06,
    "SciERC": 45.15,
    "semeval": 73.23,
}
INSTRUCTUIE_RE_AVERAGE = 67.98

BASELINE_TEST: dict[str, dict[str, float]] = {
    "llama2-7b": {"ner": 77.1, "absa": 60.8, "events": 34.7, "chunking": 81.8},
    "mistral-7b": {"ner": 88.7, "absa": 73.3, "events": 46.1, "chunking": 86.0},
}
"""The instruction-tuned baseline on test: CoNLL03, Rest14, ACE05, CoNLL03 chunks; five seeds."""
