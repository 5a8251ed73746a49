import math

import pytest

from unmask.config import gray_codes
from unmask.recipe import PAPER
from unmask.sweep.plan import SweepSettings, decoder_runs, encoder_runs, stacks

PUBLISHED_ORDER = [
    *("0000", "0001", "0011", "0010", "0110", "0111", "0101", "0100"),
    *("1100", "1101", "1111", "1110", "1010", "1011", "1001", "1000"),
]


def runs_of(num_layers=32, **changes):
    return decoder_runs(SweepSettings(**changes), "mistral-7b", num_layers, "fingerprint")


def test_default_is_the_published_sweep_sixteen_codes_times_five_seeds():
    runs = runs_of()
    assert [run.config for run in runs[:16]] == PUBLISHED_ORDER
    assert [run.seed for run in runs] == [
        seed for seed in (120, 121, 122, 123, 124) for _ in range(16)
    ]
    assert len({run.id for run in runs}) == 80


def test_runs_of_one_seed_stand_together_in_the_order_of_the_codes():
    runs = runs_of(configs=("1111", "0000"), seeds=(7, 3))
    assert [(run.seed, run.config) for run in runs] == [
        (7, "1111"),
        (7, "0000"),
        (3, "1111"),
        (3, "0000"),
    ]


def test_encoder_baseline_has_one_run_per_seed_and_no_code():
    runs = encoder_runs(SweepSettings(seeds=(1, 2, 3)), "roberta-base", "fingerprint")
    assert [(run.backbone, run.config, run.seed) for run in runs] == [
        ("roberta-base", "encoder", seed) for seed in (1, 2, 3)
    ]


@pytest.mark.parametrize("width", [1, 3, 7, 16, 80, 100])
def test_stacks_hold_every_run_once_in_order_and_are_full_but_for_the_last(width):
    runs = runs_of()
    cut = list(stacks(runs, width))
    assert [run for stack in cut for run in stack] == runs
    assert all(len(stack) == width for stack in cut[:-1])
    assert 1 <= len(cut[-1]) <= width
    assert len(cut) == math.ceil(len(runs) / width)


def test_adding_a_seed_keeps_the_ids_of_the_other_runs():
    before, after = runs_of(seeds=(120,)), runs_of(seeds=(120, 121))
    assert [run.id for run in after[:16]] == [run.id for run in before]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configs": ()}, "--configs is empty: name at least one"),
        ({"seeds": ()}, "--seeds is empty: name at least one"),
        ({"configs": ("0000", "1111", "0000")}, "--configs names 0000 more than once"),
        ({"seeds": (1, 2, 2, 1)}, "--seeds names 1, 2 more than once"),
        ({"baselines": ("minilm-l6",) * 2}, "--baselines names minilm-l6 more than once"),
        ({"seeds": (3, -1)}, "--seeds must not be negative, got -1"),
        ({"baselines": ("tiny",)}, "tiny is the decoder to sweep; leave it out of --baselines"),
        ({"fuse": 0}, "--fuse must be at least 1 or auto, got 0"),
        ({"test": "best"}, "--test must be one of chosen, all, none, got 'best'"),
        ({"checkpoint_seconds": -1.0}, "--checkpoint-seconds must be 0 or more, got -1.0"),
        ({"checkpoint_seconds": math.nan}, "--checkpoint-seconds must be 0 or more, got nan"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_flag(changes, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        SweepSettings(**changes)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("0120", "unmasking code '0120' is not a string of 0s and 1s"),
        ("0" * 33, "33 groups do not fit 32 layers"),
        ("layers:32", "layer 32 does not exist"),
        ("layers:a", "layer set 'layers:a' is not readable at 'a'"),
    ],
)
def test_code_that_does_not_fit_the_backbone_is_refused(code, message):
    with pytest.raises(ValueError, match=message):
        runs_of(configs=("0000", code))


def test_two_spellings_of_the_same_layers_are_refused():
    with pytest.raises(ValueError, match="0011 and layers:4-7 open the same layers of mistral-7b"):
        runs_of(8, configs=("0000", "0011", "layers:4-7"))


def test_settings_default_to_the_paper_and_the_embedded_names():
    settings = SweepSettings()
    assert (settings.model, settings.task) == ("tiny", "lookright")
    assert settings.recipe == PAPER
    assert settings.configs == gray_codes(4)
