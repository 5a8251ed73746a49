"""Rankings made beforehand, and how they are judged afterwards."""

import pytest

from unmask.results.foresight import (
    agreement,
    agreement_in_words,
    rank_by_probe,
    rank_by_rdrr,
)


def test_probe_ranks_by_score_then_by_the_loss_at_the_end(make_result):
    results = [
        make_result(config="0000", validation=0.0, curves={"train_loss": [2.0, 1.0, 1.0, 1.5]}),
        make_result(config="0011", validation=0.0, curves={"train_loss": [3.0, 3.0, 3.0, 1.0]}),
        make_result(config="1111", validation=0.2, curves={"train_loss": [9.0, 9.0, 9.0, 9.0]}),
        make_result(config="1000", validation=0.9, status="diverged"),
    ]
    assert rank_by_probe(results) == ["1111", "0011", "0000", "1000"]


def test_rdrr_ranks_by_the_share_of_open_layers_and_prefers_the_output_side():
    codes = ["0000", "1111", "0100", "0001", "layers:7"]
    # Shares of 8 layers: 0, 1, 1/4, 1/4, 1/8.
    assert rank_by_rdrr(codes, 0.2, 8) == ["0001", "0100", "layers:7", "0000", "1111"]


def test_agreement_of_a_perfect_a_reversed_and_a_shuffled_ranking():
    final = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.5, "f": 0.4}
    perfect = agreement(list("abcdef"), final)
    assert perfect.spearman == pytest.approx(1.0)
    assert perfect.regret == {1: 0.0, 3: 0.0, 5: 0.0}
    backwards = agreement(list("fedcba"), final)
    assert backwards.spearman == pytest.approx(-1.0)
    assert backwards.regret == pytest.approx({1: 0.5, 3: 0.3, 5: 0.1})
    # d^2 = 1 + 1 + 0 + 0 + 1 + 1, so 1 - 6 * 4 / (6 * 35).
    assert agreement(list("bacdfe"), final).spearman == pytest.approx(1 - 24 / 210)


def test_what_cannot_be_said_is_not_said():
    found = agreement(["a", "b"], {"a": 0.5, "b": 0.5})
    assert (found.spearman, found.regret) == (None, {1: 0.0})
    assert "Spearman undefined over 2 configurations" in agreement_in_words("probe", found)
    with pytest.raises(ValueError, match="no final score of any configuration that was ranked"):
        agreement(["a"], {"b": 0.5})
