"""Train the backbone `tiny` from nothing: a Llama of 8 layers that any laptop can fine-tune.

All text is generated here, so the weights can be made again from this file alone. The text uses
the vocabulary of `unmask.data.lookright` without its labels and with other seeds. The one thing
that is easy to get wrong: training is causal. Whatever an unmasked layer can do with `tiny`
must be learnt in fine-tuning, as with any decoder.

    python experiments/tiny_backbone/pretrain.py            # train and write unmask/assets/tiny
    python experiments/tiny_backbone/pretrain.py --check    # is what is saved there what it says
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unmask.data import lookright

SEED = 20_240_801  # far from the small seeds that corpora are generated with
HELD_OUT_SEED = SEED + 1
END, END_ID = "<|endoftext|>", 0
VOCAB_SIZE = 1024
CONTEXT = 64
BATCH_SIZE = 32
NUM_STEPS = 2000
WARMUP_STEPS = 100
LEARNING_RATE = 4e-3
HELD_OUT_ROWS = 128
TOLERANCE = 1e-3
"""Nats a sub-token by which the recorded held-out loss may differ on other machines."""
ASSETS = Path(str(files("unmask"))) / "assets" / "tiny"

EVERYDAY = (
    "The {noun} is {quality}, but the {noun} is not.",
    "Is the {noun} {quality}? No, it is {quality}!",
    "There are {number} words in this line; {number} of them are {quality}.",
    "My {noun} costs {number} euros and {number} cents.",
    '"Where is the {noun}?" she asked. "Near the {noun}," he said.',
    "If you see a {quality} {noun}, don't touch it.",
    "I have been here since {number} and I'll stay until {number}.",
    "{number} + {number} (see page {number})",
    "Please send the {noun} to info{number}@example.org by {number}/{number}.",
    "Größe, façade, naïve, señor, smørrebrød: {number} of {number}.",
    "Москва, Αθήνα, 東京, القاهرة, नमस्ते 🙂 {number}%",
)
# fmt: off
NOUNS = (
    "house", "cat", "dog", "book", "table", "garden", "window", "letter", "car", "horse", "child",
    "woman", "man", "friend", "school", "teacher", "market", "picture", "song", "water", "bread",
    "apple", "tree", "field", "road", "bridge", "ship", "train", "door", "key", "clock", "coat",
)
QUALITIES = (
    "small", "big", "old", "new", "red", "blue", "green", "cold", "warm", "quiet", "loud", "good",
    "bad", "strange", "simple", "dark", "bright", "dry",
)
# fmt: on


def documents(seed: int) -> Iterator[str]:
    """An endless stream of short texts, each about one name or about nothing in particular."""
    writer = lookright.Writer(random.Random(seed))
    while True:
        draw = writer.rng.random()
        if draw < 0.45:
            yield story(writer)
        elif draw < 0.85:
            yield " ".join(single(writer))
        else:
            yield everyday(writer)


def single(writer: lookright.Writer) -> tuple[str, ...]:
    """The words of one sentence as `lookright` writes it."""
    label = writer.pick(lookright.LABELS)
    kind = writer.rng.random()
    if kind < 0.5:
        return writer.right_decided(writer.fill(lookright.OPENINGS), writer.name(), label)[0]
    if kind < 0.75:
        return writer.left_decided()[0]
    return writer.pair()[0] if kind < 0.9 else writer.without_entity()[0]


def story(writer: lookright.Writer) -> str:
    """Two to four sentences about one name, all true of the same kind of thing."""
    label, name = writer.pick(lookright.LABELS), writer.name()
    nouns, said = lookright.LEFT_NOUNS[label], lookright.RIGHT_PHRASES[label]
    sentences = []
    for _ in range(2 + int(writer.rng.random() * 3)):
        subject = name if writer.rng.random() < 0.5 else ["the", writer.pick(nouns), *name]
        rest = writer.fill(lookright.PAUSES, said, lookright.ENDINGS)
        if writer.rng.random() < 0.2:
            subject, rest = writer.fill(lookright.LEFT_PHRASES[label]) + name, []
        elif writer.rng.random() < 0.2:
            rest = ["is", "a", writer.pick(nouns)]
        sentences.append(" ".join([*subject, *rest]))
    return " . ".join(sentences) + " ."


def everyday(writer: lookright.Writer) -> str:
    """One sentence of plain text with punctuation, capitals, digits and other alphabets."""
    text = writer.pick(EVERYDAY)
    for slot, options in (("{noun}", NOUNS), ("{quality}", QUALITIES)):
        while slot in text:
            text = text.replace(slot, writer.pick(options), 1)
    while "{number}" in text:
        text = text.replace("{number}", str(int(10 ** (3 * writer.rng.random()))), 1)
    return text


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: every byte is in the vocabulary, so no text is unknown."""
    stream = documents(SEED)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((next(stream) for _ in range(20_000)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, add_prefix_space=True
    )


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, num_rows: int) -> torch.Tensor:
    """Token ids [num_rows, CONTEXT + 1]: documents end to end, each followed by the end token."""
    stream, ids = documents(seed), []
    while len(ids) < num_rows * (CONTEXT + 1):
        batch = tokenizer([next(stream) for _ in range(1000)])["input_ids"]
        ids.extend(token for text in batch for token in [*text, END_ID])
    return torch.tensor(ids[: num_rows * (CONTEXT + 1)]).view(num_rows, CONTEXT + 1)


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean cross-entropy in nats a sub-token on text from a seed that training never saw."""
    model.eval()
    tokens = rows(tokenizer, HELD_OUT_SEED, HELD_OUT_ROWS)
    with torch.no_grad():
        losses = [next_token_loss(model, part).item() for part in tokens.split(BATCH_SIZE)]
    return sum(losses) / len(losses)


def next_token_loss(model: LlamaForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of tokens [rows, CONTEXT + 1], each predicted from those before it."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: 8 layers, 4 heads that share 2 key-value heads."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=END_ID,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, tokens: torch.Tensor, num_steps: int) -> None:
    """AdamW with a short warm-up and a cosine to zero; one pass over `tokens`."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        ),
    )
    model.train()
    started = time.perf_counter()
    for step, batch in enumerate(tokens.split(BATCH_SIZE)):
        loss = next_token_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            seconds = time.perf_counter() - started
            print(f"step {step:5d}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)


def check() -> int:
    """Compare the committed weights' held-out loss with the one recorded in their config."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ASSETS)
    model = LlamaForCausalLM.from_pretrained(ASSETS, dtype=torch.float32)
    recorded = model.config.held_out_loss
    measured = held_out_loss(model, tokenizer)
    print(f"held-out loss {measured:.4f} nats a sub-token, recorded {recorded:.4f}")
    if abs(measured - recorded) > TOLERANCE:
        print(f"the weights in {ASSETS} are not the recorded ones; train again", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Train and save, or check what is saved."""
    parser = argparse.ArgumentParser(
        description="Train the backbone `tiny` from nothing, or check the weights that are saved."
    )
    parser.add_argument("--check", action="store_true", help="evaluate the saved weights only")
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--threads", type=int, help="CPU threads (default: as PyTorch decides)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.check:
        return check()
    started = time.perf_counter()
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    tokens = rows(tokenizer, SEED, options.steps * BATCH_SIZE)
    print(
        f"{model.num_parameters():,} parameters, {tokens.numel():,} sub-tokens, "
        f"text made in {time.perf_counter() - started:.0f} s"
    )
    train(model, tokens, options.steps)
    loss = held_out_loss(model, tokenizer)
    print(
        f"held-out loss {loss:.4f} nats a sub-token, perplexity {math.exp(loss):.2f}, "
        f"{time.perf_counter() - started:.0f} s"
    )
    model.config.held_out_loss = round(loss, 4)
    model.save_pretrained(options.out)
    (options.out / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
