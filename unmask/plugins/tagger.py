"""A labeler with scikit-learn's `fit` and `predict`, for small scripts and cross-validation.

Trains through the one training path, `unmask.training.fit`; the recipe is a preset with
overrides, as on the command line. scikit-learn itself comes with seqeval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator

from unmask.analysis.scoring import score as strict_score
from unmask.backbones import load_backbone
from unmask.data.sentence import Sentence
from unmask.data.tags import TagError, detect_scheme, split_tag, to_iob2
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.recipe import load_recipe
from unmask.tagging import predict_tags
from unmask.training.batches import encode_split
from unmask.training.checkpoint import Progress
from unmask.training.fit import fit
from unmask.training.module import Trainee
from unmask.training.validation import Watch

Words = Sequence[Sequence[str]]


class UnmaskTagger(BaseEstimator):
    """Words in, tags out.

    >>> tagger = UnmaskTagger(model="tiny", unmask="1111", preset="tiny", overrides={"epochs": 1})
    >>> tagger.get_params()["unmask"]
    '1111'

    Args:
        model: backbone, as `UnmaskedForTokenClassification.from_pretrained` takes it.
        unmask: which layers look right, such as "0110"; None for encoders.
        preset: a name of `unmask.recipe.PRESETS`.
        overrides: fields of the recipe that differ from the preset.
        seed: of adapters, head, batches and dropout.
        device: default: cuda, mps or cpu, the first that is there.
        show_progress: while training.

    Attributes:
        model_: the trained `UnmaskedForTokenClassification`, after `fit`.
        train_loss_: one number per optimizer step.
        validation_f1_: one number per epoch, where `fit` was given validation.
    """

    def __init__(
        self,
        model: str = "tiny",
        unmask: str | None = "0110",
        preset: str = "tiny",
        overrides: dict[str, Any] | None = None,
        seed: int = 120,
        device: str | None = None,
        show_progress: bool = False,
    ) -> None:
        self.model = model
        self.unmask = unmask
        self.preset = preset
        self.overrides = overrides
        self.seed = seed
        self.device = device
        self.show_progress = show_progress

    def fit(
        self, X: Words, y: Words, validation: tuple[Words, Words] | None = None
    ) -> UnmaskTagger:
        """Train on sentences: `X` holds their words, `y` one tag a word (any known scheme).

        `validation` is an X and a y to score after each epoch: with `patience` among the
        overrides training stops when their F1 rises no more, and the best weights are kept.

        Raises:
            ValueError: when words and tags do not fit together, or no word has a label.
        """
        sentences = _sentences(X, y)
        labels = sorted({split_tag(tag)[1] for s in sentences for tag in s.tags} - {""})
        if not labels:
            raise ValueError("y has no label: every tag is O, so there is nothing to learn")
        recipe = load_recipe(self.preset, **(self.overrides or {}))
        loaded = load_backbone(self.model, recipe.compute_dtype, recipe.quantization, self.device)
        model = UnmaskedForTokenClassification(
            loaded,
            labels,
            [configuration(loaded, self.unmask)],
            LoraSettings.from_recipe(recipe),
            [self.seed],
            recipe.head_dropout,
            recipe.max_subtokens,
        )
        encoded = encode_split(sentences, model.encoder, model.tags, recipe.max_subtokens)
        trainee = Trainee("tagger", self.seed, recipe, encoded, Progress("tagger"))
        watch = None if validation is None else Watch(_sentences(*validation), _tell_nobody)
        fit(model, [trainee], show_progress=self.show_progress, watch=watch)
        if trainee.progress.diverged:
            raise ValueError(
                f"training diverged at step {trainee.progress.steps}: its loss was no finite "
                f"number; lower learning_rate ({recipe.learning_rate}) in overrides"
            )
        self.model_ = model.eval()
        self.train_loss_ = trainee.progress.train_loss
        self.validation_f1_ = trainee.progress.validation_f1
        return self

    def predict(self, X: Words) -> list[list[str]]:
        """The most probable IOB2 tag of every word; words beyond the model's length get O."""
        if not hasattr(self, "model_"):
            raise ValueError("this tagger is not trained: call fit(X, y) first")
        filled = [(index, words) for index, words in enumerate(X) if words]
        sentences = [Sentence(str(i), tuple(w), ("O",) * len(w)) for i, w in filled]
        tags: list[list[str]] = [[] for _ in X]
        if sentences:
            predicted, _ = predict_tags(self.model_, [sentences], self.model_.max_subtokens)[0]
            for (index, _), one in zip(filled, predicted, strict=True):
                tags[index] = one
        return tags

    def score(self, X: Words, y: Words) -> float:
        """Strict entity-level micro F1."""
        gold = [sentence.tags for sentence in _sentences(X, y)]
        return strict_score(gold, self.predict(X))["f1"]


def _tell_nobody(text: str) -> None:
    """The scores by label, which commands print; here the curve is kept instead."""


def _sentences(words: Words, tags: Words) -> list[Sentence]:
    if len(words) != len(tags):
        raise ValueError(f"X has {len(words)} sentences but y has {len(tags)}")
    try:
        scheme = detect_scheme(tags)
    except TagError as error:
        raise ValueError(f"y[{error.sequence}][{error.position}]: {error}") from None
    return [
        Sentence(str(index), tuple(one), to_iob2(tuple(its_tags), scheme))
        for index, (one, its_tags) in enumerate(zip(words, tags, strict=True))
    ]
