"""The Optuna study behind a search: where it is kept, and how it gets over killed workers.

Optuna notices dead workers only inside `Study.optimize` and only with a database that it is
told to watch; here trials are asked and told, by default over a journal file. So each trial
names the claim of the worker that has it (`unmask.sweep.locks`): a running trial whose claim
nobody holds belonged to a worker that died. It is marked as failed, and its parameters are
queued again, to go on from the checkpoints that its runs left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from unmask.sweep.locks import Claim, is_claimed

JOURNAL = "search.journal"
FIRST_LETTERS = b'{"op_code":'
"""Of every journal; nothing is cut off a file of the user's that begins in another way."""
WORKER = "worker"
AGAIN = "again after trial"
REPEAT = "repeats what was tried"


class WorkedStudy:
    """A study that several workers may share, each with a claim of its own.

    Args:
        study: kept in `open_storage`'s storage.
        folder: where the workers' claims are; all of them see it.
    """

    def __init__(self, study: optuna.Study, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self.worker = f"search-{uuid4().hex}"
        self._claim = Claim(folder / f"{self.worker}.lock")
        self._mine: dict[int, Trial] = {}

    def __enter__(self) -> WorkedStudy:
        self._claim.take()
        return self

    def __exit__(self, *exception: object) -> None:
        """What was asked and not told is anybody's again."""
        try:
            with self.locked():
                for trial in self._running():
                    if trial.number in self._mine:
                        self._queue_again(trial)
        finally:
            self._claim.release()

    def locked(self) -> Claim:
        """A context in which no other worker asks: a trial without a worker is a dead one's."""
        return Claim(self.folder / "search.lock")

    def ask(self, space: Mapping[str, BaseDistribution]) -> Trial:
        """The next trial, in the name of this worker; call it under `locked`."""
        trial = self.study.ask(dict(space))
        trial.set_user_attr(WORKER, self.worker)
        self._mine[trial.number] = trial
        return trial

    def tell(self, trial: Trial, value: float) -> None:
        """A trial's score."""
        self.study.tell(trial, value)
        del self._mine[trial.number]

    def prune(self, trial: Trial) -> None:
        """End a trial that does too badly to go on; its last reported score is its value."""
        self.study.tell(trial, state=TrialState.PRUNED)
        del self._mine[trial.number]

    def set_aside(self, trial: Trial) -> None:
        """End a trial that repeats another, without a score."""
        trial.set_user_attr(REPEAT, True)
        self.study.tell(trial, state=TrialState.FAIL)
        del self._mine[trial.number]

    def revive(self) -> list[int]:
        """Queue again what dead workers left running; their numbers. Call it under `locked`."""
        dead = [trial for trial in self._running() if not self._is_alive(trial)]
        for trial in dead:
            self._queue_again(trial)
            (self.folder / f"{trial.user_attrs.get(WORKER)}.lock").unlink(missing_ok=True)
        return [trial.number for trial in dead]

    def num_running(self) -> int:
        """Trials under way, of this worker and of others."""
        return len(self._running())

    def queue(self, params: Mapping[str, Any], **attributes: Any) -> None:
        """Have `params` tried next, once, however often they are queued."""
        if not any(queued_params(one) == dict(params) for one in self._waiting()):
            self.study.enqueue_trial(dict(params), user_attrs=attributes)

    def _queue_again(self, trial: FrozenTrial) -> None:
        # Queued first: a kill between the two costs a repeat, the other way round it would lose.
        if params := queued_params(trial) | trial.params:
            self.queue(params, **{AGAIN: trial.number})
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _is_alive(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get(WORKER)
        return worker is not None and is_claimed(self.folder / f"{worker}.lock")

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def queued_params(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was queued with; empty when it was not."""
    return dict(trial.system_attrs.get("fixed_params", {}))


def open_study(
    storage: BaseStorage,
    name: str,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """The study called `name`, new or as it was left; higher scores are better."""
    # Every trial would be a line on stderr, twice with ours.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=storage,
        sampler=sampler,
        pruner=pruner or optuna.pruners.NopPruner(),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )


def open_storage(storage: str | None, folder: Path) -> BaseStorage:
    """A journal file in `folder`, or what `storage` says: a URL, or the path of a journal file.

    Raises:
        ValueError: when the database cannot be opened, or the file is something else.
    """
    if storage is not None and "://" in storage:
        try:
            return RDBStorage(storage)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"--storage {storage} cannot be opened ({reason}); leave it out to keep the "
                "search in a file beside the ledger"
            ) from None
    # Absolute: Optuna's lock is a symbolic link to this name; a relative one leads nowhere.
    path = (folder / JOURNAL if storage is None else Path(storage)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _cut_torn_end(path)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(
            f"{path} is damaged, Optuna cannot read it ({type(error).__name__}: {error}); move it "
            "away to begin another search, which takes what is trained from the ledger"
        ) from None


def _cut_torn_end(path: Path) -> None:
    """A kill while a line was written must not make the next line unreadable."""
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        begins = content[: len(FIRST_LETTERS)]
        if not FIRST_LETTERS.startswith(begins):
            raise ValueError(
                f"{path} is no journal of Optuna's: it begins with {begins!r}; name another file "
                "with --storage"
            )
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()
