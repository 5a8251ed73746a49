"""Tables of effects and tests: layer by layer, and every pair of the test near the output."""

from __future__ import annotations

from unmask.results.findings import Findings
from unmask.results.statistics import Comparison
from unmask.results.tables import NOT_MEASURED, Table

LAYERS_CAPTION = (
    "Gain in validation F1 from opening each group of layers, with 95% intervals over seeds"
)


def layers_table(findings: Findings) -> Table | None:
    """One row per group of layers; None where nothing can be said."""
    if not findings.layer_effects:
        return None
    rows = [
        (
            f"{one.number}" if one.layers is None else f"{one.number} (layers {one.name})",
            _effect(one.average),
            _p(one.average and one.average.p_value),
            _p(one.p_holm),
            _effect(one.alone),
            _effect(one.last),
        )
        for one in findings.layer_effects
    ]
    columns = ("group, input first", "on average", "p", "Holm p", "opened alone", "opened last")
    return Table(LAYERS_CAPTION, columns, rows)


def pairs_table(findings: Findings) -> Table | None:
    """Each pair that opens more near the output; None without pairs that can be tested."""
    if not findings.pair_tests:
        return None
    rows = [
        (one.shorter, one.longer, f"{one.gain:+.3f}", _p(one.p_value), _p(one.p_holm))
        for one in findings.pair_tests
    ]
    caption = (
        "Opening more near the output, pair by pair: validation F1, one-sided paired t test over "
        f"seeds, Holm's correction over {len(rows)} pairs"
    )
    return Table(caption, ("opens", "against opening", "gain", "p", "Holm p"), rows)


def _effect(found: Comparison | None) -> str:
    if found is None:
        return NOT_MEASURED
    text = f"{found.difference:+.3f}"
    if found.interval is None:
        return text
    return f"{text} ({found.interval[0]:+.3f} to {found.interval[1]:+.3f})"


def _p(value: float | None) -> str:
    if value is None:
        return "none"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
