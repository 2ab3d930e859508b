"""Which checkpoints stay on disk: the best and the newest of each live trial, the best of the best ended trials."""

from __future__ import annotations

import shutil

from foretell import events
from foretell.journal import Journal
from foretell.trial import State


def retain(journal: Journal, trial: int, keep: int) -> None:
    """A trial has ended: only its best checkpoint stays, and only while it is among the study's `keep` best."""
    record = journal.record
    kept = record.checkpoints.get(trial, {})
    usable = "best" in kept and record.states[trial] in (State.DONE, State.STOPPED)
    best = kept["best"].folder if usable else None
    for folder in {saved.folder for saved in kept.values()} - {best}:
        _drop(journal, trial, folder)
    holders = sorted(record.keepers, key=lambda number: (record.losses[number], number))
    for number in holders[max(1, keep) :]:
        _drop(journal, number, record.checkpoints[number]["best"].folder)


def replace_old(journal: Journal, saved: events.Saved) -> None:
    """A live trial has a new checkpoint: what it replaces goes."""
    checkpoints = journal.record.checkpoints
    before = {old.folder for old in checkpoints.get(saved.trial, {}).values()}
    journal.log(saved)
    for folder in before - {kept.folder for kept in checkpoints[saved.trial].values()}:
        _delete(journal, folder)


def _drop(journal: Journal, trial: int, folder: str) -> None:
    journal.log(events.Dropped(trial, folder))
    _delete(journal, folder)


def _delete(journal: Journal, folder: str) -> None:
    path = journal.record.folder / folder
    journal.after_commit(lambda: shutil.rmtree(path, ignore_errors=True))
