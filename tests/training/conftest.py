"""A stack of small random runs, and the same runs alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from unmask.config import UnmaskConfig, gray_codes
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.recipe import Recipe
from unmask.training.checkpoint import Progress
from unmask.training.module import Trainee

NUM_LAYERS = 4
SMALL = Recipe(
    preset="test",
    lora_rank=2,
    lora_alpha=4,
    learning_rate=2e-2,
    optimizer="adamw",
    batch_size=3,
    accumulation=2,
    epochs=50,
    max_steps=20,
    quantization=None,
    compute_dtype="float64",
    gradient_checkpointing=False,
)


@dataclass(frozen=True)
class Spec:
    """What one run of a stack is: fields as in `Run`, and how many sentences it has."""

    code: str
    seed: int
    num_sentences: int
    recipe: Recipe = SMALL
    labels: tuple[str, ...] = ("PER",)

    def change(self, **fields):
        """The same run with another recipe."""
        return replace(self, recipe=replace(self.recipe, **fields))

    @property
    def lora(self):
        return LoraSettings.from_recipe(self.recipe)


FOUR = (
    Spec("0000", 1, 11).change(learning_rate=1e-2),
    # Its clipping always bites, that of the others hardly ever.
    Spec("0110", 2, 11).change(max_grad_norm=0.02),
    # Shorter than the others: empty batches from its twelfth step on.
    Spec("1111", 3, 5).change(learning_rate=5e-2, max_steps=12, weight_decay=0.5),
    Spec("1001", 1, 17).change(accumulation=3, batch_size=4, epochs=9, beta2=0.999),
)
"""Four runs that differ in configuration, seed, data and every constant of the optimizer."""


def sixteen_runs():
    """All configurations, three seeds, tasks of one to three labels; no two recipes alike.

    Ranks and scalings of the adapters differ, learning rates span a factor of three,
    every third run is clipped at every step, batches and windows have other sizes, and one run
    ends early.
    """
    specs = []
    for index, code in enumerate(gray_codes(4)):
        labels = ("LOC", "ORG", "PER")[: 1 + index % 3]
        spec = Spec(code, 1 + index % 3, (11, 5, 17, 8)[index % 4], labels=labels).change(
            lora_rank=(2, 3, 5)[index % 3],
            lora_alpha=4 + index,
            learning_rate=5e-3 * (1 + index / 8),
            max_grad_norm=1.0 if index % 3 else 0.02,
            weight_decay=0.05 * index,
            batch_size=2 + index % 4,
            accumulation=1 + index % 3,
            max_steps=13 if index == 6 else 20,
        )
        specs.append(spec)
    return specs


def made_up_sentences(count, seed, num_tags=3):
    """Ragged sentences of 1 to 12 tokens; some tokens are later sub-tokens of a word."""
    generator = np.random.default_rng(seed)
    sentences = []
    for index in range(count):
        length = int(generator.integers(1, 13))
        tokens = generator.integers(3, 60, length).tolist()
        begins_word = [place == 0 or generator.random() < 0.7 for place in range(length)]
        labels = [int(generator.integers(0, num_tags)) if b else IGNORED_LABEL for b in begins_word]
        word_index = (np.cumsum(begins_word) - 1).tolist()
        sentences.append(
            EncodedSentence(str(index), tuple(tokens), tuple(word_index), tuple(labels), 0)
        )
    return sentences


@pytest.fixture(scope="session")
def make_trainees():
    """`make_trainees(specs, stop_step=None)`: fresh trainees with made-up sentences."""

    def make(specs, stop_step=None):
        return [
            Trainee(
                f"run {index}",
                spec.seed,
                spec.recipe,
                made_up_sentences(
                    spec.num_sentences, spec.num_sentences, num_tags=1 + 2 * len(spec.labels)
                ),
                Progress(f"{spec.code}-{spec.seed}"),
                stop_step,
            )
            for index, spec in enumerate(specs)
        ]

    return make


@pytest.fixture(scope="session")
def make_stack(load_random):
    """`make_stack(specs, dtype)`: the model that holds those runs, fresh."""

    def make(specs, dtype=torch.float64, lora=None, **changes):
        configs = [UnmaskConfig.from_code(spec.code, NUM_LAYERS) for spec in specs]
        loaded = load_random(dtype, **changes)
        seeds = [spec.seed for spec in specs]
        return UnmaskedForTokenClassification(
            loaded,
            [spec.labels for spec in specs],
            configs,
            lora or [spec.lora for spec in specs],
            seeds,
        )

    return make


@pytest.fixture(scope="session")
def sixteen():
    """See `sixteen_runs`."""
    return sixteen_runs()


@pytest.fixture(scope="session")
def four():
    """See `FOUR`."""
    return FOUR
