"""Fused runs against the same runs alone, and one run against a loop written out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from unmask.data.alignment import IGNORED_LABEL
from unmask.stacking import own_part
from unmask.training.fit import fit


@pytest.fixture(scope="module")
def train(make_stack, make_trainees):
    """`train(specs)`: a trained stack, and its trainees."""

    def run(specs, dtype=torch.float64, prepare=lambda model: None, **changes):
        model, trainees = make_stack(specs, dtype, **changes), make_trainees(specs)
        prepare(model)
        fit(model, trainees, show_progress=False)
        return model, trainees

    return run


@pytest.fixture(scope="module")
def trained(train, four):
    """The four runs in float64, trained together."""
    return train(four)


@pytest.fixture(scope="module")
def trained_sixteen(train, sixteen):
    """Sixteen runs that differ in all that may differ, in float64, trained together."""
    return train(sixteen)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Sums in another order; Adam divides by the size of gradients, so that errors stay
        # relative to the steps, which are of order 0.01, twenty of them.
        (torch.float64, 1e-12),
        (torch.float32, 1e-4),
    ],
)
def test_sixteen_fused_runs_end_where_each_ends_alone(
    train, trained_sixteen, make_stack, sixteen, dtype, tolerance
):
    fused, together = trained_sixteen if dtype == torch.float64 else train(sixteen, dtype)
    start = make_stack(sixteen, dtype)
    for run, spec in enumerate(sixteen):
        alone, (trainee,) = train([spec], dtype)
        for name, tensor in alone.run_parameters(0).items():
            ours = fused.run_parameters(run)[name]
            torch.testing.assert_close(ours, tensor, atol=tolerance, rtol=0)
            moved = (tensor - start.run_parameters(run)[name]).abs().max()
            assert moved > 1e-2, f"{name} hardly moved, so nothing is shown"
        assert together[run].progress.steps == trainee.progress.steps
        assert together[run].progress.tokens == trainee.progress.tokens
        # A loss adds up what all weights differ by.
        expected = pytest.approx(trainee.progress.train_loss, abs=10 * tolerance)
        assert together[run].progress.train_loss == expected


def test_what_a_run_does_not_use_of_the_stack_stays_zero(trained_sixteen):
    model, _ = trained_sixteen
    for name, stacked in model.stacked_parameters().items():
        unused = torch.ones_like(stacked, dtype=torch.bool)
        for run in range(model.num_runs):
            own_part(unused, run, model.run_parameters(run)[name].shape).fill_(False)
        assert unused.any(), f"all runs fill {name}, so nothing is shown"
        assert (stacked[unused] == 0).all()


def test_runs_end_after_their_own_number_of_steps(trained):
    _, trainees = trained
    assert [trainee.progress.steps for trainee in trainees] == [20, 20, 12, 18]


def switch_off_head_dropout(model):
    model.head_dropout = 0.0


def padded(sentences):
    """Ids, mask and labels [sentences, longest], padded on the right."""
    longest = max(len(s.token_ids) for s in sentences)

    def fill(rows, padding):
        return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])

    ids = fill([s.token_ids for s in sentences], 0)
    mask = fill([[1] * len(s.token_ids) for s in sentences], 0)
    return ids, mask, fill([s.label_ids for s in sentences], IGNORED_LABEL)


def train_by_hand(model, trainee):
    """The textbook loop: padded batches, PyTorch's AdamW, clipping and cosine, no packing."""
    recipe, num_steps = trainee.recipe, trainee.schedule.num_steps
    parameters = list(model.stacked_parameters().values())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=int(num_steps * recipe.cosine_steps_factor)
    )
    for step, window in enumerate(windows_by_hand(trainee)):
        if step == num_steps:
            return
        share = recipe.accumulation if recipe.keep_last_microbatch_only else len(window)
        for batch in window:
            if recipe.keep_last_microbatch_only:
                optimizer.zero_grad()
            ids, mask, labels = padded(batch)
            (model(ids, mask, labels).loss / share).backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimizer.step()
        cosine.step()
        optimizer.zero_grad()


def windows_by_hand(trainee):
    """The batches of every optimizer step; the last window of an epoch may be short."""
    recipe = trainee.recipe
    for epoch in range(recipe.epochs):
        order = np.random.default_rng([trainee.seed, epoch]).permutation(len(trainee.sentences))
        batches = [
            [trainee.sentences[i] for i in order[start : start + recipe.batch_size]]
            for start in range(0, len(order), recipe.batch_size)
        ]
        for start in range(0, len(batches), recipe.accumulation):
            yield batches[start : start + recipe.accumulation]


@pytest.mark.parametrize(
    ("run", "as_released"), [(0, False), (1, False), (2, False), (3, False), (0, True), (3, True)]
)
def test_one_run_equals_the_textbook_loop(train, make_stack, make_trainees, four, run, as_released):
    spec = four[run].change(
        keep_last_microbatch_only=as_released, cosine_steps_factor=4.0 if as_released else 1.0
    )
    without_dropout = replace(spec.lora, dropout=0.0)

    ours, _ = train([spec], prepare=switch_off_head_dropout, lora=without_dropout)
    theirs = make_stack([spec], lora=without_dropout)
    switch_off_head_dropout(theirs)
    train_by_hand(theirs.train(), make_trainees([spec])[0])
    for name, tensor in theirs.run_parameters(0).items():
        torch.testing.assert_close(ours.run_parameters(0)[name], tensor, atol=1e-11, rtol=0)


def test_as_released_trains_something_else_than_the_paper(train, trained, four):
    paper, _ = trained
    released, _ = train([four[0].change(keep_last_microbatch_only=True)])
    assert (paper.score_weight[0] - released.score_weight[0]).abs().max() > 1e-3


def test_a_diverged_run_is_marked_and_the_others_go_on(train, trained, four):
    def poison(model):
        model.score_weight.data[1, 0, 0] = float("inf")

    healthy, _ = trained
    model, trainees = train(four, prepare=poison)
    assert [trainee.progress.diverged for trainee in trainees] == [False, True, False, False]
    assert trainees[1].progress.steps == 1
    for run in (0, 2, 3):
        assert trainees[run].progress.steps == trainees[run].schedule.num_steps
        for name, tensor in healthy.run_parameters(run).items():
            # Without its tokens the others' products have other shapes, hence other round-off.
            ours = model.run_parameters(run)[name]
            torch.testing.assert_close(ours, tensor, atol=1e-12, rtol=0)


def test_a_diverged_run_keeps_what_it_was_before_the_step(train, four):
    before = {}

    def poison(model):
        model.score_weight.data[0, 0, 0] = float("nan")
        before.update({name: t.clone() for name, t in model.run_parameters(0).items()})

    model, (trainee,) = train(four[:1], prepare=poison)
    assert trainee.progress.diverged
    assert not math.isfinite(trainee.progress.train_loss[-1])
    for name, tensor in model.run_parameters(0).items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0, equal_nan=True)


def test_training_learns(train, four):
    _, (trainee,) = train([four[0].change(max_steps=40)])
    losses = trainee.progress.train_loss
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_counters_tell_what_was_done(train, four):
    spec = four[0].change(epochs=2, max_steps=None)  # 11 sentences: 4 batches, 2 windows an epoch
    _, (trainee,) = train([spec])
    progress = trainee.progress
    assert progress.tokens == 2 * sum(len(s.token_ids) for s in trainee.sentences)
    assert (progress.microbatches, progress.steps, len(progress.train_loss)) == (8, 4, 4)
    assert progress.seconds > 0
    assert not progress.diverged


@torch.no_grad()
def by_hand_losses(model, window):
    return [float(model(*padded(batch)).loss) for batch in window]


def test_the_recorded_loss_is_that_of_the_words_of_its_window(train, make_stack, four):
    """Before the first step: a mean over micro-batches of means over words."""
    spec = four[3].change(max_steps=1)
    lora = replace(spec.lora, dropout=0.0)
    _, (trainee,) = train([spec], prepare=switch_off_head_dropout, lora=lora)
    expected = np.mean(
        by_hand_losses(make_stack([spec], lora=lora).eval(), next(windows_by_hand(trainee)))
    )
    assert trainee.progress.train_loss == pytest.approx([expected])


def test_recomputing_activations_changes_nothing(train, trained, four):
    plain, _ = trained
    recomputed, _ = train([spec.change(gradient_checkpointing=True) for spec in four])
    for name, parameter in plain.stacked_parameters().items():
        assert torch.equal(parameter, recomputed.stacked_parameters()[name]), name


def test_every_run_needs_a_trainee(make_stack, make_trainees, four):
    with pytest.raises(ValueError, match="the model holds 4 runs, 3 were given"):
        fit(make_stack(four), make_trainees(four[:3]), show_progress=False)


def test_dropout_is_drawn_by_each_run_s_own_seed_and_micro_batch(
    make_stack, make_trainees, four, monkeypatch
):
    model, trainees = make_stack(four), make_trainees(four, stop_step=3)
    draws = []
    original = model.route.keys

    def spy(draw):
        draws.append(draw)
        return original(draw)

    monkeypatch.setattr(model.route, "keys", spy)
    fit(model, trainees, show_progress=False)
    drawn = list(dict.fromkeys(draws))
    assert {draw.seeds for draw in drawn} == {(1, 2, 3, 1)}
    # Three windows of 2 take six micro-batches; of 3 (the second of an epoch is short), eight.
    assert [draw.micro_steps[0] for draw in drawn][:6] == [0, 1, 2, 3, 4, 5]
    assert [draw.micro_steps[3] for draw in drawn] == [0, 1, 2, 3, 4, 5, 6, 7]
