"""Samplers propose configurations that make sense, each once, and get near the best."""

import statistics
from itertools import product

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.sweep.locks import Claim
from unmask.sweep.plan import SearchSettings
from unmask.sweep.samplers import NeighbourSampler, make_sampler
from unmask.sweep.search import Space, run_search
from unmask.sweep.study import WorkedStudy, open_storage, open_study

CODES = ["".join(bits) for bits in product("01", repeat=8)]


def landscape(code: str) -> float:
    """F1-like: layers near the output help, 3 and 4 only together, too many do harm."""
    bits = [int(bit) for bit in code]
    gains = (-0.04, -0.01, 0.02, 0.0, 0.0, 0.05, 0.07, 0.03)
    value = 0.6 + sum(gain * bit for gain, bit in zip(gains, bits, strict=True))
    return value + 0.06 * bits[3] * bits[4] - 0.05 * (sum(bits) > 5)


def search_made_up(folder, sampler, seed, num_trials=40, score=landscape):
    """(score by code, batches asked) of a search without any training."""
    space = Space(num_layers=8, num_groups=8)
    settings = SearchSettings(num_trials=num_trials, sampler=sampler, seed=seed)
    study = open_study(
        optuna.storages.InMemoryStorage(),
        "made up",
        make_sampler(sampler, space.names, num_trials, seed),
    )
    batches = []

    def scores(codes):
        batches.append(list(codes))
        return {code: score(code) for code in codes}

    with WorkedStudy(study, folder) as worked:
        return run_search(worked, space, settings, scores), batches


@pytest.mark.parametrize("sampler", ["neighbours", "tpe", "brute-force"])
def test_every_configuration_is_asked_for_once_and_the_ends_come_first(tmp_path, sampler):
    found, batches = search_made_up(tmp_path, sampler, seed=0, num_trials=30)
    asked = [code for batch in batches for code in batch]
    assert len(asked) == len(set(asked)) == len(found) == 30
    assert asked[:2] == ["00000000", "11111111"]
    assert max(map(len, batches)) == 4


def test_neighbours_come_within_a_point_of_the_best_in_40_trials(tmp_path):
    best = max(map(landscape, CODES))
    regrets = []
    for seed in range(5):
        found, _ = search_made_up(tmp_path, "neighbours", seed)
        regrets.append(best - max(found.values()))
    assert statistics.median(regrets) <= 0.01


def test_auto_tries_all_where_the_trials_suffice(tmp_path):
    space = Space(num_layers=8, num_groups=3)
    sampler = make_sampler("auto", space.names, 8, seed=0)
    study = open_study(optuna.storages.InMemoryStorage(), "all", sampler)
    with WorkedStudy(study, tmp_path) as worked:
        found = run_search(
            worked,
            space,
            SearchSettings(num_trials=50),
            lambda codes: {code: code.count("1") / 3 for code in codes},
        )
    assert set(found) == {"".join(bits) for bits in product("01", repeat=3)}


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
        make_sampler("grid", ["a"], 10, 0)


def running_trial(study, folder, worker="search-dead"):
    trial = study.ask(study_space())
    trial.set_user_attr("worker", worker)
    return trial


def study_space():
    from unmask.sweep.samplers import bit_space

    return bit_space(["a", "b"])


@pytest.fixture
def journal(tmp_path):
    """A function that opens the same journal study anew, as another process would."""

    def open_again():
        sampler = make_sampler("neighbours", ["a", "b"], 2, 0)
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
    sampler = make_sampler("tpe", ["a", "b"], 2, 0)
    storage = open_storage(url, tmp_path)
    open_study(storage, "kept", sampler).enqueue_trial({"a": 1, "b": 1})
    other = open_storage(url, tmp_path)
    assert states(open_study(other, "kept", sampler)) == ["WAITING"]
    for one in (storage, other):
        assert isinstance(one, optuna.storages.RDBStorage)
        one.engine.dispose()
