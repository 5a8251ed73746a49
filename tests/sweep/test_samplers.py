"""Samplers propose configurations that make sense, each once, and get near the best."""

import inspect
import re
import statistics
from itertools import product

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from unmask.recipe import load_recipe
from unmask.sweep.locks import Claim
from unmask.sweep.plan import SearchSettings
from unmask.sweep.samplers import (
    TPE_ARGUMENTS,
    NeighbourSampler,
    make_pruner,
    make_sampler,
    score_or_guess,
)
from unmask.sweep.search import run_search
from unmask.sweep.space import Candidate, Space, bit_space, parse_dimension
from unmask.sweep.study import WorkedStudy, open_storage, open_study

TINY = load_recipe("tiny")
SINGLE_LAYERS = Space(num_layers=8, num_groups=8)
CODES = ["".join(bits) for bits in product("01", repeat=8)]


def landscape(code: str) -> float:
    """F1-like: layers near the output help, 3 and 4 only together, too many do harm."""
    bits = [int(bit) for bit in code]
    gains = (-0.04, -0.01, 0.02, 0.0, 0.0, 0.05, 0.07, 0.03)
    value = 0.6 + sum(gain * bit for gain, bit in zip(gains, bits, strict=True))
    return value + 0.06 * bits[3] * bits[4] - 0.05 * (sum(bits) > 5)


def search_made_up(folder, sampler, seed, num_trials=40, score=landscape, prune=False):
    """(score by code, scorer, study) of a search without any training."""
    settings = SearchSettings(num_trials=num_trials, sampler=sampler, seed=seed, prune=prune)
    study = open_study(
        optuna.storages.InMemoryStorage(),
        "made up",
        make_sampler(sampler, SINGLE_LAYERS, num_trials, seed),
        make_pruner(),
    )
    scorer = MadeUp(score)
    with WorkedStudy(study, folder) as worked:
        found = run_search(worked, SINGLE_LAYERS, settings, scorer, TINY)
    return {candidate.code: value for candidate, value in found.items()}, scorer, study


class MadeUp:
    """Scores without any training; at a rung, less of the same."""

    def __init__(self, score):
        self.score = score
        self.batches = []

    def scores(self, candidates):
        self.batches.append([candidate.code for candidate in candidates])
        return {candidate: self.score(candidate.code) for candidate in candidates}

    def at_rung(self, candidates, share):
        return {candidate: self.score(candidate.code) * share for candidate in candidates}


@pytest.mark.parametrize("sampler", ["neighbours", "tpe", "brute-force"])
def test_every_configuration_is_asked_for_once_and_the_ends_come_first(tmp_path, sampler):
    found, scorer, _ = search_made_up(tmp_path, sampler, seed=0, num_trials=30)
    asked = [code for batch in scorer.batches for code in batch]
    assert len(asked) == len(set(asked)) == len(found) == 30
    assert asked[:2] == ["00000000", "11111111"]
    assert max(map(len, scorer.batches)) == 4


def test_neighbours_come_within_a_point_of_the_best_in_40_trials(tmp_path):
    best = max(map(landscape, CODES))
    regrets = []
    for seed in range(5):
        found, *_ = search_made_up(tmp_path, "neighbours", seed)
        regrets.append(best - max(found.values()))
    assert statistics.median(regrets) <= 0.01


def test_auto_tries_all_where_the_trials_suffice(tmp_path):
    space = Space(num_layers=8, num_groups=3)
    sampler = make_sampler("auto", space, 8, seed=0)
    study = open_study(optuna.storages.InMemoryStorage(), "all", sampler)
    scorer = MadeUp(lambda code: code.count("1") / 3)
    with WorkedStudy(study, tmp_path) as worked:
        found = run_search(worked, space, SearchSettings(num_trials=50), scorer, TINY)
    assert {one.code for one in found} == {"".join(bits) for bits in product("01", repeat=3)}


def test_pruned_trials_count_as_tried_and_the_ends_are_never_pruned(tmp_path):
    def score(code):
        return 0.0 if code in ("00000000", "11111111") else landscape(code)

    found, scorer, study = search_made_up(
        tmp_path, "neighbours", seed=1, num_trials=30, score=score, prune=True
    )
    by_state = {
        state: [trial for trial in study.trials if trial.state.name == state]
        for state in ("COMPLETE", "PRUNED", "RUNNING")
    }
    pruned = by_state["PRUNED"]
    assert len(by_state["COMPLETE"]) + len(pruned) == 30
    assert pruned
    assert not by_state["RUNNING"]
    assert {"00000000", "11111111"} < set(found)
    trained = [code for batch in scorer.batches for code in batch]
    assert len(trained) == len(by_state["COMPLETE"])
    for trial in pruned:
        code = "".join(str(trial.params[name]) for name in SINGLE_LAYERS.names)
        assert code not in trained
        assert trial.value == pytest.approx(landscape(code) * (0.25, 0.5)[trial.last_step or 0])


def finished(number, bits, value, at_rungs, state=TrialState.COMPLETE):
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=dict(zip("ab", bits, strict=True)),
        distributions=bit_space(["a", "b"]),
        intermediate_values=dict(enumerate(at_rungs)),
    )


def test_a_pruned_trial_is_taken_for_what_others_gained_from_its_rung_on():
    others = [finished(0, (0, 0), 0.8, (0.3, 0.5)), finished(1, (1, 1), 0.9, (0.5, 0.8))]
    pruned = finished(2, (0, 1), 0.2, (0.2,), TrialState.PRUNED)
    assert score_or_guess(pruned, others) == pytest.approx(0.2 + (0.5 + 0.4) / 2)
    assert score_or_guess(others[0], others) == 0.8
    assert score_or_guess(pruned, []) == 0.2


def test_every_argument_of_optunas_samplers_is_given():
    arguments = set(inspect.signature(optuna.samplers.TPESampler).parameters)
    assert set(TPE_ARGUMENTS) | {"seed"} == arguments
    every = set(inspect.signature(optuna.samplers.BruteForceSampler).parameters)
    assert every == {"seed", "avoid_premature_stop"}


RECIPE_TOO = Space(
    8,
    2,
    (
        parse_dimension("learning_rate=1e-3..1e-1"),
        parse_dimension("lora_rank=8,16"),
        parse_dimension("lora_targets=q_proj+v_proj,q_proj+k_proj+v_proj+o_proj"),
    ),
)


def test_a_search_over_the_recipe_begins_with_the_recipes_own_values(tmp_path):
    study = open_study(
        optuna.storages.InMemoryStorage(), "recipe", make_sampler("auto", RECIPE_TOO, 12, 0)
    )
    scorer = MadeUp(lambda code: 0.5)
    with WorkedStudy(study, tmp_path) as worked:
        found = run_search(worked, RECIPE_TOO, SearchSettings(num_trials=12), scorer, TINY)
    assert len(found) == 12
    own = (
        ("learning_rate", 1e-2),
        ("lora_rank", 16),
        ("lora_targets", ("q_proj", "v_proj")),
    )
    assert list(found)[:2] == [Candidate("00", own), Candidate("11", own)]
    recipes = {candidate.recipe(TINY) for candidate in found}
    assert len({recipe.learning_rate for recipe in recipes}) > 2
    assert {recipe.lora_rank for recipe in recipes} == {8, 16}
    assert all(1e-3 <= recipe.learning_rate <= 1e-1 for recipe in recipes)
    assert {len(recipe.lora_targets) for recipe in recipes} == {2, 4}


def test_a_space_of_choices_is_tried_whole_and_no_more(tmp_path):
    space = Space(8, 1, (parse_dimension("lora_rank=8,16,32"),))
    study = open_study(
        optuna.storages.InMemoryStorage(), "whole", make_sampler("tpe", space, 40, 0)
    )
    scorer = MadeUp(lambda code: 0.5)
    with WorkedStudy(study, tmp_path) as worked:
        found = run_search(worked, space, SearchSettings(num_trials=40), scorer, TINY)
    assert len(found) == 6 == space.size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropout=0.1", "--search-over takes learning_rate, lora_rank, lora_targets"),
        ("learning_rate=1e-2..1e-3", "a range needs LOW below HIGH"),
        ("lora_rank=8..16", "a range needs LOW below HIGH and learning_rate"),
        ("lora_rank=8,8", "choices must differ"),
        ("lora_rank=0", "lora_rank must be a whole number from 1"),
        ("learning_rate=fast", "--search-over learning_rate=fast: could not convert"),
    ],
)
def test_wrong_dimensions_are_refused_by_name(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_dimension(text)


def test_a_recipe_outside_of_the_search_is_refused():
    space = Space(8, 2, (parse_dimension("lora_rank=8,32"),))
    with pytest.raises(ValueError, match="the recipe has lora_rank 16, none of these"):
        space.params("00", TINY)


@pytest.mark.parametrize(
    ("name", "message"),
    [("neighbours", "knows bits only"), ("brute-force", "cannot try every value of a range")],
)
def test_samplers_that_do_not_know_a_recipe_are_refused(name, message):
    with pytest.raises(ValueError, match=f"--sampler {name} {message}"):
        make_sampler(name, RECIPE_TOO, 40, seed=0)


@given(
    st.dictionaries(st.tuples(*[st.integers(0, 1)] * 5), st.floats(0, 1), min_size=5, max_size=31),
    st.integers(0, 5),
)
def test_what_was_tried_is_never_proposed_while_something_is_left(scores, seed):
    sampler = NeighbourSampler(list("abcde"), seed)
    assert sampler.propose(scores, set(scores)) not in scores


def test_with_no_random_share_a_proposal_is_at_most_two_flips_from_a_good_one():
    sampler = NeighbourSampler(list("abcdefgh"), seed=0, num_random=0)
    sampler.SHARE_RANDOM = 0.0
    scores = {(0,) * 8: 0.1, (1,) * 8: 0.2, (0, 0, 0, 0, 1, 1, 1, 1): 0.9}
    proposed = sampler.propose(scores, set(scores))
    assert min(sum(a != b for a, b in zip(proposed, one, strict=True)) for one in scores) <= 2


def test_unknown_sampler_is_refused_by_name():
    with pytest.raises(ValueError, match=r"--sampler must be one of auto, neighbours.*got 'grid'"):
        make_sampler("grid", SINGLE_LAYERS, 10, 0)


def running_trial(study, folder, worker="search-dead"):
    trial = study.ask(study_space())
    trial.set_user_attr("worker", worker)
    return trial


def study_space():
    return bit_space(["a", "b"])


@pytest.fixture
def journal(tmp_path):
    """A function that opens the same journal study anew, as another process would."""

    def open_again():
        sampler = NeighbourSampler(["a", "b"], 0)
        return open_study(open_storage(None, tmp_path), "kept", sampler)

    return open_again


def states(study):
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def test_trials_of_dead_workers_fail_and_their_parameters_are_queued_again(journal, tmp_path):
    dead = running_trial(journal(), tmp_path)
    worked = WorkedStudy(journal(), tmp_path)
    assert worked.revive() == [dead.number]
    again = worked.study.get_trials(deepcopy=False)[1]
    assert states(worked.study) == ["FAIL", "WAITING"]
    assert again.system_attrs["fixed_params"] == dead.params
    assert again.user_attrs == {"again after trial": 0}
    assert worked.revive() == []


def test_a_trial_queued_and_killed_before_it_had_parameters_is_queued_again(journal, tmp_path):
    study = journal()
    study.enqueue_trial({"a": 1, "b": 0})
    study.ask()  # killed here: running, without a worker and without parameters
    worked = WorkedStudy(journal(), tmp_path)
    assert worked.revive() == [0]
    with worked:
        assert worked.ask(study_space()).params == {"a": 1, "b": 0}


def test_trials_of_living_workers_are_left_alone(journal, tmp_path):
    with Claim(tmp_path / "search-alive.lock"):
        running_trial(journal(), tmp_path, "search-alive")
        worked = WorkedStudy(journal(), tmp_path)
        assert worked.revive() == []
    assert worked.revive() == [0]


def test_an_error_while_training_leaves_nothing_running(journal, tmp_path):
    def fail_after_asking():
        with WorkedStudy(journal(), tmp_path) as worked:
            worked.ask(study_space())
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail_after_asking()
    failed, queued = journal().get_trials()
    assert (failed.state.name, queued.state.name) == ("FAIL", "WAITING")
    assert queued.system_attrs["fixed_params"] == failed.params


def test_a_torn_line_of_the_journal_is_cut_off(journal, tmp_path):
    journal().enqueue_trial({"a": 1, "b": 1})
    with (tmp_path / "search.journal").open("a") as file:
        file.write('{"op_code": 4, "wor')
    study = journal()
    study.enqueue_trial({"a": 0, "b": 0})
    assert states(journal()) == ["WAITING", "WAITING"]


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="--storage nosuch://x cannot be opened"):
        open_storage("nosuch://x", tmp_path)


def test_a_database_keeps_the_study(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    sampler = make_sampler("tpe", Space(8, 2), 2, 0)
    storage = open_storage(url, tmp_path)
    open_study(storage, "kept", sampler).enqueue_trial({"a": 1, "b": 1})
    other = open_storage(url, tmp_path)
    assert states(open_study(other, "kept", sampler)) == ["WAITING"]
    for one in (storage, other):
        assert isinstance(one, optuna.storages.RDBStorage)
        one.engine.dispose()
