"""Train the runs of one checkpoint together: every seed, and of a decoder both masks, in one pass.

All parameters are trained, so a stack has weights of its own for each run; batches, dropout,
clipping, schedule and divergence are each run's own, as in a sweep, and by the same trainer. A
stack takes minutes and keeps no checkpoints: a kill costs what was under way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedTokenizerBase

from unmask.analysis.scoring import score
from unmask.attention import configuration
from unmask.backbones import LoadedBackbone
from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Corpus
from unmask.data.tags import tag_names
from unmask.recipe import Recipe
from unmask.results.run import Run, RunResult
from unmask.scale.labeler import FullLabelers, load_checkpoint
from unmask.scale.plan import Checkpoint
from unmask.tagging import predict_tags
from unmask.training.batches import encode_split
from unmask.training.checkpoint import Progress
from unmask.training.environment import describe_environment
from unmask.training.estimate import Cost, estimate
from unmask.training.fit import fit
from unmask.training.module import Trainee
from unmask.training.result import run_result


@dataclass(frozen=True)
class Finetuning:
    """What all fine-tunings of one call have in common.

    `train` are the encoded training sentences: all checkpoints of a study have one tokenizer.
    """

    corpus: Corpus
    train: Sequence[EncodedSentence]
    recipe: Recipe
    device: str

    @classmethod
    def of(
        cls, corpus: Corpus, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, device: str
    ) -> Finetuning:
        """With the training split encoded."""
        tags, limit = tag_names(corpus.labels), recipe.max_subtokens
        train = encode_split(corpus.train, WordEncoder(tokenizer), tags, limit)
        return cls(corpus, train, recipe, device)

    def cost(self, checkpoint: Checkpoint) -> Cost:
        """What one run costs, estimated."""
        return estimate(self._load(checkpoint), self.recipe, self.train)

    def train_stack(
        self, checkpoint: Checkpoint, runs: Sequence[Run], more: Sequence[Callback] = ()
    ) -> list[RunResult]:
        """Train runs of one checkpoint together to their end, and score them on validation.

        Args:
            checkpoint: what they begin with.
            runs: of that checkpoint.
            more: callbacks for the trainer.

        Raises:
            RuntimeError: when a layer does not see what a run's configuration says.
        """
        loaded = self._load(checkpoint)
        environment = describe_environment(loaded)  # before its weights are stacked
        model = self._stack(loaded, runs)
        trainees = [
            Trainee(run.name, run.seed, run.recipe, self.train, Progress(run.id)) for run in runs
        ]
        fit(model, trainees, show_progress=False, more=more)
        started = time.monotonic()
        sentences = self.corpus.validation
        tagged = predict_tags(model, [sentences] * len(runs), self.recipe.max_subtokens)
        seconds = (time.monotonic() - started) / len(runs)
        gold = [sentence.tags for sentence in sentences]
        return [
            run_result(
                run,
                trainee.progress,
                score(gold, tags, num_truncated_words=num_cut),
                seconds,
                environment,
                model.device,
            )
            for run, trainee, (tags, num_cut) in zip(runs, trainees, tagged, strict=True)
        ]

    def _load(self, checkpoint: Checkpoint) -> LoadedBackbone:
        return load_checkpoint(checkpoint.folder, checkpoint.name, self.device)

    def _stack(self, loaded: LoadedBackbone, runs: Sequence[Run]) -> FullLabelers:
        return FullLabelers(
            loaded,
            self.corpus.labels,
            [configuration(loaded, run.config) for run in runs],
            [run.seed for run in runs],
            self.recipe.head_dropout,
            self.recipe.compute_dtype,
        )
