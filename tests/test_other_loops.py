"""Labelers in training code of others: plain loops, transformers' Trainer, accelerate, compile."""

import copy
import threading

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments

from unmask.attention import unmasked
from unmask.config import UnmaskConfig

IDS = torch.arange(5, 37).reshape(2, 16)
LABELS = IDS % 5

# PyTorch's own; and older releases of transformers know the old names only.
of_compiling = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a l")
of_old_names = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated")


@pytest.fixture
def labeler(random_labeler):
    return random_labeler().train()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def step(model):
    loss = model(IDS, labels=LABELS).loss
    loss.backward()
    return {"loss": loss.detach(), **gradients(model)}


@pytest.mark.parametrize("name", ["activation", "gradient"])
def test_layers_computed_again_after_forward_give_the_same_gradients(labeler, name):
    """Backward runs when the route has been left; dropout is on."""
    twin = copy.deepcopy(labeler)
    expected, stored = stored_bytes(lambda: step(labeler))
    getattr(twin, f"{name}_checkpointing_enable")()
    assert twin.is_gradient_checkpointing
    found, stored_less = stored_bytes(lambda: step(twin))
    assert_same(found, expected)
    assert stored_less < stored / 3
    getattr(twin, f"{name}_checkpointing_disable")()
    assert not twin.is_gradient_checkpointing
    twin.zero_grad()
    assert stored_bytes(lambda: step(twin))[1] == stored


def stored_bytes(run):
    """What `run` gives, and the size of what forward stored for backward in between."""
    total = 0

    def count(tensor):
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        return run(), total


def test_a_pass_under_way_elsewhere_is_waited_for_by_layers_computed_again(labeler):
    expected = step(copy.deepcopy(labeler))
    labeler.activation_checkpointing_enable()
    loss = labeler(IDS, labels=LABELS).loss
    entered, done = threading.Event(), threading.Event()

    def hold():
        with labeler.route(labeler.batch([[labeler.encoder.encode_words(["a"], 9)]])):
            entered.set()
            done.wait(0.2)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait()
    loss.backward()
    other.join()
    assert_same(gradients(labeler), {n: g for n, g in expected.items() if n != "loss"})


def test_backward_of_forward_inside_another_route_raises_under_checkpointing(labeler):
    labeler.activation_checkpointing_enable()
    loss = labeler(IDS, labels=LABELS).loss
    batch = labeler.batch([[labeler.encoder.encode_words(["a"], 9)]])
    with (
        labeler.route(batch),
        pytest.raises(RuntimeError, match="the route of the forward pass is no longer held"),
    ):
        loss.backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_its_own_thread_computes_layers_again(labeler):
    """PyTorch runs backward there in a thread that never held the route."""
    labeler.cuda()
    twin = copy.deepcopy(labeler)
    twin.activation_checkpointing_enable()
    ids, labels = IDS.cuda(), LABELS.cuda()
    labeler(ids, labels=labels).loss.backward()
    with torch.autocast("cuda", torch.bfloat16):
        twin(ids, labels=labels).loss.backward()
    expected, found = labeler.score_weight.grad, twin.score_weight.grad
    assert (found - expected).norm() < 2**-5 * expected.norm()  # as in test_autocast
    loss = twin(ids, labels=labels).loss
    with (
        twin.route(twin.batch([[twin.encoder.encode_words(["a"], 9)]])),
        pytest.raises(RuntimeError, match="the route of the forward pass is no longer held"),
    ):
        loss.backward()


@pytest.mark.parametrize("given", [{"use_reentrant": True}, {"context_fn": list}])
def test_checkpointing_that_cannot_find_the_route_is_refused(labeler, given):
    with pytest.raises(ValueError, match="layers that are computed again find their batch by a c"):
        labeler.gradient_checkpointing_enable(gradient_checkpointing_kwargs=given)
    assert not labeler.is_gradient_checkpointing


def test_a_compiled_labeler_computes_what_it_computes_uncompiled(labeler):
    twin = copy.deepcopy(labeler)
    expected = step(labeler)
    compiled = torch.compile(twin, backend="eager")
    loss = compiled(IDS, labels=LABELS).loss
    loss.backward()
    assert_same({"loss": loss.detach(), **gradients(twin)}, expected)
    labeler.eval()
    labeler.compile(backend="eager")
    assert labeler.predict("Velmora froze early") == twin.eval().predict("Velmora froze early")


@of_compiling
def test_a_compiled_stock_model_that_is_unmasked_has_the_same_gradients(build):
    model = build("llama").train()
    with unmasked(model, UnmaskConfig.from_code("0110", 4)):

        def states(function):
            model.zero_grad()
            out = function(input_ids=IDS, use_cache=False).last_hidden_state
            out.square().mean().backward()
            return {"states": out.detach(), **gradients(model)}

        expected = states(model)
        assert_same(states(torch.compile(model, backend="eager")), expected)


def examples():
    generator = torch.Generator().manual_seed(1)

    def draw(high, length):
        return torch.randint(high, (length,), generator=generator).tolist()

    lengths = (5, 9, 7, 12, 6, 8, 10, 4)
    return Dataset.from_list([{"input_ids": draw(900, n), "labels": draw(5, n)} for n in lengths])


def trained(model, folder, resume=None, **settings):
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=4,
        max_steps=4,
        save_steps=2,
        learning_rate=1e-2,
        seed=3,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )
    collator = DataCollatorForTokenClassification(model.loaded.tokenizer)
    trainer = Trainer(model, arguments, data_collator=collator, train_dataset=examples())
    trainer.train(resume_from_checkpoint=resume)
    return {name: p.detach().clone() for name, p in model.stacked_parameters().items()}


@of_compiling
@of_old_names
@pytest.mark.parametrize(
    "settings",
    [
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"bf16": True, "torch_compile_backend": "eager"},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_the_trainer_s_switches_change_nothing_that_is_learned(random_labeler, tmp_path, settings):
    expected = trained(random_labeler(), tmp_path / "plain")
    assert_same(trained(random_labeler(), tmp_path / "other", **settings), expected)


def test_the_trainer_resumes_where_it_was(random_labeler, tmp_path):
    """Dropout included."""
    expected = trained(random_labeler(), tmp_path)
    start = random_labeler()
    assert_same(trained(start, tmp_path / "again", resume=tmp_path / "checkpoint-2"), expected)
    assert start.num_forward_calls == 4


def test_accelerate_in_mixed_precision_trains_as_a_plain_loop(random_labeler):
    def train(model, accelerator=None):
        optimizer = torch.optim.SGD(model.stacked_parameters().values(), lr=0.1)
        running = model.train()
        if accelerator:
            running, optimizer = accelerator.prepare(running, optimizer)
        for _ in range(2):
            loss = running(IDS, labels=LABELS).loss
            accelerator.backward(loss) if accelerator else loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return {name: p.detach() for name, p in model.stacked_parameters().items()}

    AcceleratorState._reset_state(reset_partial_state=True)  # a Trainer may have been here
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    assert_same(train(random_labeler(), accelerator), train(random_labeler()))
