"""Training to the end: the proof before it, checkpoints during it, and going on after a kill."""

import itertools

import pytest
import torch

from unmask import attention
from unmask.config import UnmaskConfig
from unmask.model import UnmaskedForTokenClassification
from unmask.training import fit as fit_module
from unmask.training.checkpoint import CHECKPOINT_FILE, read_checkpoint
from unmask.training.fit import Successor, fit

NUM_LAYERS = 4


@pytest.fixture
def run(make_stack, make_trainees, tmp_path):
    """`run(specs, stop_step)`: train a fresh stack, resuming from what is in `folders`."""

    def train(specs, stop_step=None, dtype=torch.float32, checkpoint_seconds=1e9):
        model, trainees = make_stack(specs, dtype), make_trainees(specs, stop_step)
        folders = [tmp_path / str(index) for index in range(len(specs))]
        fit(model, trainees, folders, show_progress=False, checkpoint_seconds=checkpoint_seconds)
        return model, trainees

    return train


@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw_8bit"])
def test_a_stack_that_was_stopped_goes_on_bit_by_bit(
    run, make_stack, make_trainees, four, optimizer
):
    # Those whose windows all end together: else other batches would meet in a pack after the stop,
    # which is tested below.
    specs = [spec.change(optimizer=optimizer) for spec in four[:3]]
    straight, expected = make_stack(specs, torch.float32), make_trainees(specs)
    fit(straight, expected, show_progress=False)
    _, halfway = run(specs, stop_step=7)
    assert [trainee.progress.steps for trainee in halfway] == [7, 7, 7]
    resumed, trainees = run(specs)
    for name, parameter in straight.stacked_parameters().items():
        assert torch.equal(resumed.stacked_parameters()[name], parameter), name
    for trainee, other in zip(trainees, expected, strict=True):
        assert trainee.progress.train_loss == other.progress.train_loss
        assert trainee.progress.tokens == other.progress.tokens


def test_runs_may_be_stacked_otherwise_when_they_go_on(
    run, make_stack, make_trainees, four, tmp_path
):
    """A checkpoint belongs to a run, not to its stack; float64, sums in another order."""
    straight, expected = make_stack(four), make_trainees(four)
    fit(straight, expected, show_progress=False)
    run(four, stop_step=7, dtype=torch.float64)
    model, trainees = make_stack(four[1:2]), make_trainees(four[1:2])
    fit(model, trainees, [tmp_path / "1"], show_progress=False)
    assert trainees[0].progress.steps == 20
    for name, tensor in model.run_parameters(0).items():
        theirs = straight.run_parameters(1)[name]
        torch.testing.assert_close(tensor, theirs, atol=1e-12, rtol=0)


def test_what_is_through_is_not_trained_again(run, four):
    first, _ = run(four[:2])
    again, trainees = run(four[:2])
    assert [trainee.progress.steps for trainee in trainees] == [20, 20]
    for name, parameter in first.stacked_parameters().items():
        assert torch.equal(again.stacked_parameters()[name], parameter), name


def test_a_run_that_is_through_keeps_no_optimizer_state(run, four, tmp_path):
    specs = [four[0], four[2].change(max_steps=3)]
    run(specs, stop_step=5)
    kinds = {}
    for name, spec in (("0", specs[0]), ("1", specs[1])):
        found = read_checkpoint(tmp_path / name, f"{spec.code}-{spec.seed}")
        assert found is not None
        kinds[name] = {tensor.partition("/")[0] for tensor in found[1]}
    assert kinds == {"0": {"weight", "state"}, "1": {"weight"}}


def test_a_diverged_run_stays_so_after_a_resume(run, make_stack, make_trainees, four, tmp_path):
    model, trainees = make_stack(four[:2]), make_trainees(four[:2])
    model.score_weight.data[1, 0, 0] = float("inf")
    fit(model, trainees, [tmp_path / "0", tmp_path / "1"], show_progress=False)
    _, again = run(four[:2])
    assert [trainee.progress.diverged for trainee in again] == [False, True]
    assert again[1].progress.steps == 1


def test_checkpoints_come_in_time_and_always_between_two_windows(run, four, monkeypatch, tmp_path):
    written = []
    original = fit_module.write_checkpoint

    def spy(folder, progress, tensors):
        written.append((folder.name, progress.microbatches))
        original(folder, progress, tensors)

    monkeypatch.setattr(fit_module, "write_checkpoint", spy)
    run(four[:1] + four[3:], stop_step=3, checkpoint_seconds=0)
    # Run 0: 4 batches an epoch in windows of 2. Run 1: 5 batches in windows of 3, the second short.
    assert [at for name, at in written if name == "0"][:3] == [2, 4, 6]
    assert sorted({at for name, at in written if name == "1"}) == [3, 5, 8]


def test_every_run_gets_its_turn_though_its_windows_end_at_other_times(run, four, monkeypatch):
    """A clock that all runs share would be reset while one of them stands within a window."""
    now = iter(range(10_000))
    monkeypatch.setattr(fit_module.time, "monotonic", lambda: float(next(now)))
    written = []
    monkeypatch.setattr(
        fit_module, "write_checkpoint", lambda folder, *rest: written.append(folder.name)
    )
    specs = [spec.change(max_grad_norm=1.0) for spec in (four[0], four[3])]
    run(specs, checkpoint_seconds=30.0)
    assert min(written.count(name) for name in ("0", "1")) >= 3


@pytest.fixture
def checkpoints(run, four, monkeypatch):
    """`checkpoints(specs, seconds_of)`: the times of a run's, every 2 seconds, steps take 1.

    `seconds_of(now)` is what writing one takes.
    """
    now = [0.0]
    monkeypatch.setattr(fit_module.time, "monotonic", lambda: now[0])
    original = fit_module.FusedRuns.training_step

    def step(self, batch, batch_idx):
        now[0] += 1
        original(self, batch, batch_idx)

    monkeypatch.setattr(fit_module.FusedRuns, "training_step", step)

    def times(specs, seconds_of):
        now[0], written = 0.0, {}

        def write(folder, progress, tensors):
            written.setdefault(folder.name, []).append(now[0])
            now[0] += seconds_of(now[0])

        monkeypatch.setattr(fit_module, "write_checkpoint", write)
        run(specs, checkpoint_seconds=2.0)
        return list(written.values())

    return times


def test_where_writing_takes_long_checkpoints_are_fewer(checkpoints, four):
    quick, slow = (checkpoints(four[:1], lambda now, s=s: s)[0] for s in (0.0, 4.0))
    assert len(quick) >= 5
    assert len(slow) == 2, "one after two seconds, and the last"


def test_writing_takes_its_share_though_runs_have_it_at_other_times(checkpoints, four):
    """Windows of 2 and 3 steps; one of every run in 2 * .2 / .05 seconds."""
    specs = [four[0].change(accumulation=size, max_steps=60 // size) for size in (2, 3)]
    for times in checkpoints(specs, lambda now: 0.2):
        pauses = [later - earlier for earlier, later in itertools.pairwise(times[1:-1])]
        assert len(pauses) >= 2
        assert min(pauses) >= 8


def test_one_checkpoint_that_took_long_does_not_thin_out_all_that_follow(checkpoints, four):
    spec = four[0].change(accumulation=1, max_steps=60)
    (times,) = checkpoints([spec], lambda now: 1.0 if now < 3 else 0.0)
    assert times[1] - times[0] >= 20
    assert len(times) > 10


def test_gradients_from_before_take_no_part(make_stack, make_trainees, four):
    stacks = make_stack(four[:1]), make_stack(four[:1])
    for parameter in stacks[1].stacked_parameters().values():
        parameter.grad = torch.ones_like(parameter)
    expected, found = stacks
    for stack in stacks:
        fit(stack, make_trainees(four[:1]), show_progress=False)
    for name, parameter in expected.stacked_parameters().items():
        assert torch.equal(found.stacked_parameters()[name], parameter), name


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_backbone_on_which_training_broke_off_serves_another_stack(
    make_stack, make_trainees, four, monkeypatch, recomputes
):
    """As after running out of memory; it had its layers computed again."""
    specs = [four[0].change(gradient_checkpointing=True)]
    stack = make_stack(specs)

    def fail(*args):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(fit_module.FusedRuns, "training_step", fail)
        with pytest.raises(torch.OutOfMemoryError):
            fit(stack, make_trainees(specs), show_progress=False)
    assert not stack.training
    assert not stack.is_gradient_checkpointing
    stack.activation_checkpointing_enable()  # its user may have done so
    specs = [four[0].change(gradient_checkpointing=recomputes)]
    other = UnmaskedForTokenClassification(
        stack.release(), specs[0].labels, stack.configs, stack.run_lora, stack.seeds
    )
    other.train()
    fit(other, make_trainees(specs), show_progress=False)
    expected = make_stack(specs)
    fit(expected, make_trainees(specs), show_progress=False)
    for name, parameter in expected.stacked_parameters().items():
        assert torch.equal(other.stacked_parameters()[name], parameter), name


def test_a_kill_within_a_window_falls_back_to_the_last_whole_one(run, four, tmp_path, monkeypatch):
    """Ctrl-C in the middle: what is on disk is between two windows and goes on to the same end."""
    straight, _ = run(four[:2])
    for name in ("0", "1"):
        (tmp_path / name / CHECKPOINT_FILE).unlink()
    original = fit_module.FusedRuns.training_step
    calls = iter(range(10_000))

    def interrupted(self, batch, batch_idx):
        if next(calls) == 9:
            raise KeyboardInterrupt
        original(self, batch, batch_idx)

    monkeypatch.setattr(fit_module.FusedRuns, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(four[:2], checkpoint_seconds=0)
    found = read_checkpoint(tmp_path / "0", "0000-1")
    assert found is not None
    assert (found[0].microbatches, found[0].steps) == (8, 4)
    resumed, _ = run(four[:2])
    for name, parameter in straight.stacked_parameters().items():
        assert torch.equal(resumed.stacked_parameters()[name], parameter), name


def test_a_run_in_the_place_of_one_that_ended_ends_as_if_alone(
    make_stack, make_trainees, sixteen, tmp_path
):
    """The third begins while the first is within a window of accumulation; float64."""
    long = sixteen[2].change(max_steps=11)  # windows of three
    short = sixteen[5].change(max_steps=3)  # windows of three too, so of other lengths
    short = short.change(accumulation=2)
    late = sixteen[4].change(max_steps=5)
    specs = [long, short, late]
    model, trainees = make_stack([long, short]), make_trainees(specs)
    folders = [tmp_path / str(index) for index in range(3)]
    told, within_window = [], []

    def on_end(places):
        told.append(list(places))
        within_window.append(bool(trainees[0].in_window))
        if len(told) > 1:
            return {}
        own = late.lora
        model.begin(1, late.labels, UnmaskConfig.from_code(late.code, NUM_LAYERS), own, late.seed)
        return {1: Successor(trainees[2], folders[2])}

    fit(model, trainees[:2], folders[:2], show_progress=False, on_end=on_end)
    assert told == [[1], [1], [0]]
    assert within_window[0], (
        "the long run was between two windows, so its gradients were not at risk"
    )
    assert [trainee.progress.steps for trainee in trainees] == [11, 3, 5]
    for place, spec, trainee in ((0, long, trainees[0]), (1, late, trainees[2])):
        alone, (expected,) = make_stack([spec]), make_trainees([spec])
        fit(alone, [expected], show_progress=False)
        for name, tensor in alone.run_parameters(0).items():
            ours = model.run_parameters(place)[name]
            torch.testing.assert_close(ours, tensor, atol=1e-12, rtol=0)
        assert trainee.progress.train_loss == pytest.approx(expected.progress.train_loss, abs=1e-12)
    for index, spec in enumerate(specs):
        found = read_checkpoint(folders[index], f"{spec.code}-{spec.seed}")
        assert found is not None
        assert found[0].steps == spec.recipe.max_steps


def test_a_checkpoint_of_another_run_is_refused(run, four, tmp_path):
    run(four[:1], stop_step=1)
    with pytest.raises(ValueError, match="is a checkpoint of run 0000-1, not of 0110-2"):
        run(four[1:2])


def test_nothing_is_trained_where_a_layer_disagrees_with_its_configuration(
    make_stack, make_trainees, four, monkeypatch
):
    original = attention.varlen_attention

    def always_causal(q, k, v, cu_seqlens, max_seqlen, causal, *rest):
        return original(q, k, v, cu_seqlens, max_seqlen, torch.ones_like(causal), *rest)

    monkeypatch.setattr(attention, "varlen_attention", always_causal)
    model, trainees = make_stack(four), make_trainees(four)
    before = {name: p.detach().clone() for name, p in model.stacked_parameters().items()}
    with pytest.raises(RuntimeError, match="layer 1 is causal but should look right"):
        fit(model, trainees, show_progress=False)
    for name, parameter in model.stacked_parameters().items():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_model_is_left_in_eval_mode_and_recomputes_nothing(
    make_stack, make_trainees, four, checkpointing
):
    spec = four[0].change(max_steps=1, gradient_checkpointing=checkpointing)
    model = make_stack([spec])
    fit(model, make_trainees([spec]), show_progress=False)
    assert not model.training
    assert not model.backbone.training
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.backbone.modules())


def test_progress_goes_to_stderr_and_quiet_is_quiet(make_stack, make_trainees, four, capfd):
    spec = four[0].change(max_steps=2)
    fit(make_stack([spec]), make_trainees([spec]), show_progress=False)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    fit(make_stack([spec]), make_trainees([spec]), show_progress=True)
    assert capfd.readouterr().out == ""
