"""`unmask compare`: configurations of a sweep's ledger, or saved labelers on a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.analysis.scoring import sentence_counts
from unmask.results.compare import Pair, compare_in_group, corrected, to_json, to_text
from unmask.results.kept import Kept
from unmask.results.ledger import Ledger
from unmask.results.over_sentences import compare_counts
from unmask.sweep.outputs import groups_in


def compare_configurations(
    folder: Path, names: Sequence[str], split: str, as_json: bool = False
) -> str:
    """Compare configurations or baselines by name, in every group of a ledger that has them.

    Args:
        folder: the --out folder of a sweep.
        names: two or more.
        split: "validation" or "test".
        as_json: a JSON list of groups in place of text.

    Raises:
        FileNotFoundError: when the folder has no ledger.
        ValueError: when no group has all of `names`.
    """
    if not (folder / "ledger.jsonl").exists():
        raise FileNotFoundError(f"{folder} holds no ledger.jsonl; give the --out folder of a sweep")

    groups = groups_in(folder, Ledger(folder / "ledger.jsonl").results())
    having = [group for group in groups if set(names) <= {*group.codes, *group.baselines}]
    if not having:
        known = sorted({name for group in groups for name in (*group.codes, *group.baselines)})
        raise ValueError(
            f"{folder / 'ledger.jsonl'} has no task and backbone with results of all of "
            f"{', '.join(names)}; it has {', '.join(known) or 'nothing'}"
        )
    found = [
        (compare_in_group(group, names, split, Kept(folder).counts), group) for group in having
    ]
    if as_json:
        return json.dumps([to_json(pairs, group) for pairs, group in found], indent=2)
    return "\n\n".join(to_text(pairs, group) for pairs, group in found)


def compare_labelers(
    folders: Sequence[str], file: Path, column: str | None = None, as_json: bool = False
) -> str:
    """Compare saved labelers on the sentences of one file, over sentences.

    Raises:
        FileNotFoundError: when there is no such file or labeler.
        ValueError: for fewer than two labelers, and for a file that cannot be read.
    """
    from itertools import combinations

    from unmask.data.readers import read_file
    from unmask.data.source import ReadOptions

    if len(set(folders)) < 2:
        raise ValueError("name two or more different labelers to compare")
    sentences = read_file(file, ReadOptions(column=column)).sentences
    gold = [sentence.tags for sentence in sentences]
    counts = {name: sentence_counts(gold, _tags(name, sentences)) for name in folders}
    pairs = corrected(
        [
            Pair(one, other, str(file), None, compare_counts(counts[one], counts[other]))
            for one, other in combinations(counts, 2)
        ]
    )
    return json.dumps(to_json(pairs), indent=2) if as_json else to_text(pairs)


def _tags(folder: str, sentences: Any) -> list[list[str]]:
    from unmask.model import UnmaskedForTokenClassification
    from unmask.saving import is_saved
    from unmask.tagging import predict_tags

    if not is_saved(Path(folder)):
        raise FileNotFoundError(
            f"{folder} is not a folder written by save_pretrained or a sweep; give --in FOLDER to "
            "compare configurations of a ledger"
        )
    model = UnmaskedForTokenClassification.from_pretrained(folder)
    [(tags, _)] = predict_tags(model, [sentences], model.max_subtokens)
    return tags
