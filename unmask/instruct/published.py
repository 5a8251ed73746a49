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

HUM_SETS = ("CrossNER", "FewRel", "CCF Law trigger", "CCF Law argument", "C3", "IMDB")
HUM_BASIC: dict[str, tuple[tuple[float, ...], float]] = {
    "GPT-4": ((54.75, 19.43, 51.12, 51.22, 94.60, 93.40), 62.67),
    "Qwen2": ((48.11, 3.82, 4.63, 5.64, 80.80, 89.80), 45.53),
    "Llama2": ((29.78, 0.34, 0.00, 0.00, 12.00, 39.60), 16.34),
    "Baichuan2": ((40.40, 2.26, 0.00, 0.85, 39.00, 83.60), 33.14),
    "Llama3": ((0.00, 0.00, 0.00, 0.00, 67.20, 90.20), 31.48),
    "OneKE": ((52.22, 33.93, 62.85, 62.02, 68.13, 82.26), 59.80),
    "YAYI-UIE": ((50.39, 36.09, 12.87, 59.42, 35.60, 49.40), 41.53),
    "Llama3-iepile": ((51.48, 23.76, 56.82, 57.91, 51.80, 86.60), 54.20),
    "Hum-Qwen2": ((50.86, 26.90, 64.96, 61.85, 90.20, 89.40), 64.15),
    "Hum-Llama2": ((50.68, 32.92, 66.57, 52.29, 73.40, 89.00), 61.10),
    "Hum-Baichuan2": ((50.57, 20.96, 65.01, 64.42, 24.00, 91.40), 50.33),
    "Hum-Llama3": ((49.42, 31.62, 62.08, 61.48, 82.20, 92.00), 63.40),
}
"""Hum, Table 1, basic instructions: scores on HUM_SETS, and the printed average, in which the two
of CCF Law count as one."""

HUM_COMPOUND: dict[str, tuple[tuple[float, ...], float]] = {
    "GPT-4": ((42.41, 30.21, 52.74, 57.95, 95.60, 93.00), 57.27),
    "Qwen2": ((12.03, 24.81, 30.93, 35.51, 88.80, 89.00), 49.57),
    "Llama2": ((0.07, 4.56, 12.88, 11.78, 39.00, 78.20), 26.83),
    "Baichuan2": ((11.10, 6.72, 27.64, 30.32, 74.20, 82.40), 40.68),
    "Llama3": ((0.00, 0.00, 10.70, 13.25, 76.80, 90.00), 35.76),
    "OneKE": ((59.94, 39.14, 61.86, 63.88, 67.04, 90.28), 63.85),
    "YAYI-UIE": ((20.75, 16.96, 38.08, 40.96, 76.20, 92.80), 45.85),
    "Llama3-iepile": ((52.30, 21.71, 56.73, 54.54, 0.80, 0.00), 26.09),
    "Hum-Qwen2": ((58.14, 45.07, 61.96, 67.68, 91.86, 89.60), 69.41),
    "Hum-Llama2": ((55.86, 45.62, 64.62, 58.05, 84.20, 87.97), 67.00),
    "Hum-Baichuan2": ((56.14, 31.95, 55.19, 56.76, 73.80, 90.89), 61.75),
    "Hum-Llama3": ((56.41, 43.39, 51.63, 50.85, 80.80, 91.00), 64.57),
}
"""As HUM_BASIC, for compound instructions."""

SEQGPT_PRETRAINING: dict[str, tuple[int, int, int]] = {
    "en CLS": (50_172, 4_914_471, 22_002),
    "en ET": (212_734, 21_594_057, 84_461),
    "en NER": (60_094, 9_803_353, 117_300),
    "zh CLS": (49_917, 7_283_509, 32_209),
    "zh ET": (576_839, 170_318_622, 143_935),
    "zh NER": (196_515, 46_210_373, 417_168),
}
"""SeqGPT: instances, tokens and labels of the first stage, by language and task."""

SEQGPT_PRETRAINING_TOTAL = (1_146_271, 260_124_385, 817_075)
