"""Findings as sentences, shared by the HTML page and the Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unmask.results.findings import Findings, Gain, describe_code
from unmask.results.groups import is_fully_causal, is_fully_open
from unmask.results.output_side import OutputSideTest
from unmask.results.run import RunResult
from unmask.results.statistics import Summary
from unmask.results.tables import NOT_MEASURED, counted, format_p, format_summary

SURE = 0.05
"""Corrected p-values above this are not called sure."""


def answer(findings: Findings) -> str:
    """The choice and its scores in one or two sentences."""
    chosen = findings.chosen
    if chosen is None:
        return "No configuration has a validation score yet, so there is nothing to choose from."
    which = describe_code(chosen.name, findings.num_layers)
    scored = {"validation": chosen.validation, "test": chosen.test}
    known = {split: summary for split, summary in scored.items() if summary is not None}
    f1 = " and ".join(f"{format_summary(summary)} on {split}" for split, summary in known.items())
    if chosen.test is None:
        f1 += " and not yet scored on test"
    num_candidates = sum(row.validation is not None for row in findings.rows)
    what = f"Chosen on validation data: {chosen.name} (the best of {num_candidates})"
    if num_candidates == 1:
        what = f"The one configuration that was scored: {chosen.name}"
    return f"{what}, which opens {which}. F1 is {f1} ({_over_seeds(known)})."


def gain_in_words(gain: Gain) -> str:
    """One gain with its intervals, and what may be concluded from it."""
    number = f"{gain.comparison.difference:+.3f} F1 over {name_against(gain)} on {gain.split}"
    return f"{number}. {gain_details(gain)}"


def gain_details(gain: Gain) -> str:
    """What the gain rests on: over seeds, and over sentences where counts were kept."""
    found = gain.comparison
    seeds = f"Over {found.num_seeds} shared seed{'s' if found.num_seeds > 1 else ''}"
    if found.interval is None:
        text = f"{seeds}: {verdict(gain)}."
    else:
        text = (
            f"{seeds}: 95% interval {_interval(found.interval)}, {format_p(found.p_value)}"
            f"{_in_brackets(gain.p_corrected)}, {verdict(gain)}."
        )
    if (sentences := gain.over_sentences) is None:
        return text
    return (
        f"{text} Over {sentences.num_sentences} sentences: 95% interval "
        f"{_interval(sentences.interval)}, {format_p(sentences.p_value)}"
        f"{_in_brackets(sentences.p_holm)}."
    )


def name_against(gain: Gain) -> str:
    """The other side of a gain, with what its code means."""
    if is_fully_causal(gain.against):
        return f"{gain.against} (all causal)"
    return f"{gain.against} (all open)" if is_fully_open(gain.against) else gain.against


def verdict(gain: Gain) -> str:
    """What the interval and the corrected p-value allow to say, in a few words."""
    interval = gain.comparison.interval
    if interval is None:
        return "no interval, so nothing is certain"
    if interval[0] <= 0 <= interval[1]:
        return "not told apart by these seeds"
    side = "better" if interval[0] > 0 else "worse"
    if gain.p_corrected is not None and gain.p_corrected > SURE:
        return f"{side}, but not surely so once corrected"
    return f"{side} beyond the noise of the seeds"


def gains_footnote(gains: Sequence[Gain]) -> str:
    """How the intervals were had, and the bias of gains on validation."""
    text = "Over seeds: would training anew say the same? Paired t test, two-sided."
    if any(gain.over_sentences for gain in gains):
        text += (
            " Over sentences: would other sentences say the same of these runs? Bootstrap interval "
            "and approximate randomization."
        )
    text += " Corrected: by Holm's method over the comparisons shown"
    if (rivals := max((gain.num_rivals for gain in gains), default=1)) > 1:
        text += (
            f", and over seeds times {rivals} for the configurations that could have been chosen "
            "instead (runs that are lucky on validation are lucky on test too)"
        )
    text += ". Intervals are not corrected."
    if on_validation := [gain for gain in gains if gain.split == "validation"]:
        text += " Gains on validation flatter the chosen configuration"
        if rivals > 1 and any(gain.over_sentences for gain in on_validation):
            text += f", so there it is times {rivals} over sentences as well"
        text += "."
    return text


def scoring_in_words(results: Sequence[RunResult]) -> str:
    """How the numbers were scored, with what was cut, for the splits that were scored."""
    parts: list[str] = []
    for split in ("validation", "test"):
        scores = [one.scores[split] for one in results if split in one.scores]
        cut = [one["num_truncated_words"] for one in scores if "num_truncated_words" in one]
        words = [one["num_words"] for one in scores if "num_words" in one]
        if not words:
            continue
        number = NOT_MEASURED
        if cut:
            # Backbones cut their sentences at other words.
            number = f"{max(cut)}" if min(cut) == max(cut) else f"{min(cut)} to {max(cut)}"
        parts.append(f"{split}: {number} of {max(words)}")
    cut_off = f" Words lost to truncation count as O; {', '.join(parts)} were cut off."
    return (
        "Micro F1 over exactly matching spans, by seqeval in its strict mode with scheme IOB2, "
        "from the prediction at the first sub-token of each word, against the full gold."
        + (cut_off if parts else "")
    )


def statistics_in_words(findings: Findings) -> list[str]:
    """Correlation of the splits, and whether opening nearer the output is better."""
    sentences: list[str] = []
    if findings.correlation is not None:
        num_both = sum(bool(row.validation and row.test) for row in findings.rows)
        sentences.append(
            f"Pearson correlation of mean validation and mean test F1 over the {num_both} "
            f"configurations that have both: {findings.correlation:.3f}."
        )
    if findings.published_test is not None:
        sentences.append(
            "Opening more groups nearer the output, the published test on validation: "
            f"{_output_side(findings.published_test)}. Its pairs share configurations, so its "
            "p-value is too small."
        )
    if findings.seed_test is not None:
        sentences.append(
            f"The same with seeds as the observations: {_output_side(findings.seed_test)}."
        )
    return sentences


def layers_in_words(findings: Findings) -> str:
    """Which group of layers matters most, on average over the others."""
    known = [one for one in findings.layer_effects if one.average is not None]
    if not known:
        return "Too few configurations were run for averages over the other groups."
    best = max(known, key=lambda one: one.average.difference if one.average else 0.0)
    assert best.average is not None, "known effects only"
    where = f"group {best.number}" + (f" (layers {best.name})" if best.layers else "")
    surely = [one for one in known if one.p_holm is not None and one.p_holm <= SURE]
    sure = f"{len(surely)} of {len(known)} effects are beyond the noise of the seeds (Holm p < .05)"
    effect = round(best.average.difference, 3) + 0.0  # never -0.0
    what = f"opening {where} raises F1 most"
    if effect <= 0:
        what = f"opening no group raises F1, {where} comes nearest to it"
    return f"On average, {what}: {effect:+.3f}. {sure}."


def _over_seeds(known: Mapping[str, Summary]) -> str:
    """What stands behind means and deviations by split."""
    counts = [counted(one.num_seeds, "seed") for one in known.values()]
    over = counts[0]
    if len(set(counts)) > 1:
        over = ", ".join(f"{count} on {split}" for split, count in zip(known, counts, strict=True))
    spread = any(one.sd is not None for one in known.values())
    return f"mean and standard deviation over {over}" if spread else over


def _in_brackets(p_corrected: float | None) -> str:
    return "" if p_corrected is None else f" (corrected {format_p(p_corrected)})"


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def _output_side(test: OutputSideTest) -> str:
    unpaired = ""
    if test.p_two_sample is not None:
        unpaired = f" (unpaired, as the paper words it, {format_p(test.p_two_sample)})"
    pairs = counted(test.num_pairs, "pair")
    return (
        f"mean gain {test.gain:+.3f} F1 over {pairs}, one-sided paired t test on "
        f"{counted(test.num_observations, 'observation')}, {format_p(test.p_value)}{unpaired}"
    )
