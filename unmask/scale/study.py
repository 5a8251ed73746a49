"""One study in one folder: text to tokens, the pair pre-trained, labelers, figure.

OUT/settings.json            what was asked for; another set of constants wants another OUT
OUT/tokenizer/, OUT/tokens.* the text as the models read it
OUT/encoder/00 ... 50        checkpoints in transformers' format; OUT/decoder/ alike
OUT/encoder/losses.json      the loss of every step, tokens, seconds
OUT/ledger.jsonl             fine-tunings
OUT/figure.png, table.md     made of the ledger alone
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from unmask.data.sentence import Corpus
from unmask.recipe import Recipe
from unmask.results.figures import save_png
from unmask.results.ledger import Ledger
from unmask.results.tables import counted
from unmask.scale.figure import checkpoint_figure, checkpoint_table, scores_by_task
from unmask.scale.meter import Meter
from unmask.scale.plan import Checkpoint, missing, planned
from unmask.scale.pretrain import CHECKPOINT_SECONDS, forget_state, pretrain
from unmask.scale.settings import KINDS, Pretraining
from unmask.scale.text import TokenFile, load_tokenizer, train_tokenizer, write_tokens

SETTINGS_FILE = "settings.json"
LOSSES_FILE = "losses.json"


@dataclass(frozen=True)
class Study:
    """A folder and what happens in it."""

    out: Path
    console: Console

    @property
    def ledger(self) -> Ledger:
        """Of the fine-tunings."""
        return Ledger(self.out / "ledger.jsonl")

    def settings(self) -> Pretraining:
        """What the folder was pre-trained with.

        Raises:
            FileNotFoundError: when nothing was pre-trained there.
        """
        path = self.out / SETTINGS_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"{self.out} holds no pre-training: run `python -m unmask.scale pretrain` first"
            )
        return Pretraining.from_dict(json.loads(path.read_text(encoding="utf-8")))

    def prepare(self, text: Path, tokenizer: Path | None, settings: Pretraining) -> TokenFile:
        """Settings, tokenizer and tokens, from an earlier call where that was the same.

        Raises:
            ValueError: when the folder was made with other settings or of other text.
        """
        path = self.out / SETTINGS_FILE
        if path.exists() and self.settings() != settings:
            raise ValueError(
                f"{path} says that {self.out} was made with other settings; choose another --out"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings.to_dict(), indent=1) + "\n", encoding="utf-8")
        folder = self.out / "tokenizer"
        if not folder.exists():
            if tokenizer is not None:
                made = load_tokenizer(tokenizer)
            else:
                made = train_tokenizer(text, settings.vocab_size)
            beside = folder.with_suffix(".partial")
            shutil.rmtree(beside, ignore_errors=True)
            made.save_pretrained(beside)
            beside.rename(folder)
        tokens = write_tokens(text, self.tokenizer(), self.out)
        length = settings.recipe.max_subtokens
        left_out = tokens.num_tokens % length
        self.console.print(
            f"text: {tokens.num_lines:,} lines, {tokens.num_tokens:,} tokens, "
            f"{len(tokens.chunks(length)):,} chunks of {length}; the last {left_out} tokens do not "
            "fill one"
        )
        return tokens

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The study's own copy."""
        return load_tokenizer(self.out / "tokenizer")

    def pretrain(
        self,
        kinds: Sequence[str],
        tokens: TokenFile,
        device: str,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        compiled: bool | None = None,
    ) -> None:
        """The missing rest of each kind's pre-training, see `unmask.scale.pretrain.pretrain`."""
        settings, tokenizer = self.settings(), self.tokenizer()
        chunks = tokens.chunks(settings.recipe.max_subtokens)
        for kind in kinds:
            folder = self.out / kind
            if (folder / LOSSES_FILE).exists():
                self.console.print(f"{kind}: pre-trained before")
                continue
            run_id = settings.id(kind, tokens.fingerprint)
            with Meter(self.console, kind) as meter:
                progress = pretrain(
                    kind,
                    settings,
                    chunks,
                    tokenizer,
                    folder,
                    run_id,
                    device,
                    meter.show,
                    checkpoint_seconds,
                    compiled=compiled,
                )
            losses = folder / LOSSES_FILE
            losses.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
            forget_state(folder)
            self.console.print(
                f"{kind}: {progress.tokens:,} tokens in {progress.seconds:.0f} s, "
                f"{progress.tokens / max(progress.seconds, 1e-9):,.0f} a second, "
                f"loss {progress.train_loss[-1]:.3f}"
            )

    def checkpoints(self, numbers: Iterable[int] | None = None) -> list[Checkpoint]:
        """Those of both kinds that are there, or those with the given numbers.

        Raises:
            FileNotFoundError: when a number is asked for that one kind does not have.
        """
        tokens, settings = TokenFile.open(self.out), self.settings()
        fingerprint = tokens.fingerprint if tokens else ""
        wanted = None if numbers is None else set(numbers)
        found = []
        for kind in KINDS:
            there = {
                int(folder.name): folder
                for folder in sorted((self.out / kind).glob("*/"))
                if folder.name.isdecimal()
            }
            lacking = sorted((wanted or set()) - set(there))
            if lacking or not there:
                raise FileNotFoundError(
                    f"{self.out / kind} has no checkpoint {lacking[0] if lacking else 0}; there "
                    f"are {len(there)}: run `python -m unmask.scale pretrain` to its end"
                )
            identity = settings.id(kind, fingerprint)
            found += [
                Checkpoint(kind, identity, number, folder)
                for number, folder in sorted(there.items())
                if wanted is None or number in wanted
            ]
        return sorted(found, key=lambda one: one.number)

    def finetune(
        self,
        checkpoints: Sequence[Checkpoint],
        corpus: Corpus,
        recipe: Recipe,
        seeds: Sequence[int],
        device: str,
        fuse: int | None = None,
    ) -> None:
        """The missing fine-tunings, those of a checkpoint together, each stack written as it ends.

        Args:
            checkpoints: what to begin with.
            corpus: to train and to score on.
            recipe: of all runs.
            seeds: of each variant.
            device: "cpu" or "cuda".
            fuse: runs that share a forward pass; None: as many as the memory holds.

        Raises:
            ValueError: when sentences may be longer than what the models were pre-trained on.
        """
        # Not above: pre-training and drawing have no use for a trainer, which loads slowly.
        from unmask.scale.finetune import Finetuning
        from unmask.scale.stacks import StackLoop

        settings = self.settings()
        context = settings.recipe.max_subtokens
        if recipe.max_subtokens > context:
            raise ValueError(
                f"--max-subtokens {recipe.max_subtokens} is more than the {context} tokens that "
                f"these models were pre-trained on: give --max-subtokens {context} or less"
            )
        fingerprint = corpus.fingerprint()
        plan = list(
            planned(checkpoints, settings.num_layers, corpus.name, seeds, recipe, fingerprint)
        )
        to_do = missing(self.ledger, plan)
        done = len(plan) - len(to_do)
        self.console.print(f"{counted(len(plan), 'run')}, {done} of them already there")
        if to_do:
            finetuning = Finetuning.of(corpus, recipe, self.tokenizer(), device)
            StackLoop(finetuning, self.ledger, self.console).work_off(to_do, fuse)

    def write_pages(self) -> list[Path]:
        """Figure and tables, from the ledger alone."""
        of_tasks = scores_by_task(self.ledger.results())
        figure, table = self.out / "figure.png", self.out / "table.md"
        save_png(checkpoint_figure(of_tasks), figure)
        table.write_text("\n".join(map(checkpoint_table, of_tasks)), encoding="utf-8")
        return [figure, table]
