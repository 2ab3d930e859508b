"""Which checkpoints stay on disk: the best and the newest of each live trial, the best of the best ended trials."""

from __future__ import annotations

import shutil

from foretell import events
from foretell._faults import fault
from foretell.journal import Journal
from foretell.trial import State, trial_name

CHECKPOINTS = "checkpoints"  # folder of a trial's checkpoints, in the trial's own


def retain(journal: Journal, trial: int, keep: int) -> None:
    """A trial has ended: only its best checkpoint stays, and only while it is among the study's `keep` best."""
    record = journal.record
    kept = record.checkpoints.get(trial, {})
    usable = "best" in kept and record.states[trial] in (State.DONE, State.STOPPED)
    best = kept["best"].folder if usable else None
    for folder in {saved.folder for saved in kept.values()} - {best}:
        _drop(journal, trial, folder)
    holders = sorted(record.keepers, key=lambda number: (record.losses[number], number))
    journal.after_commit(lambda: sweep(journal, trial))
    for number in holders[max(1, keep) :]:
        _drop(journal, number, record.checkpoints[number]["best"].folder)


def replace_old(journal: Journal, saved: events.Saved) -> None:
    """A live trial has a new checkpoint: what it replaces goes."""
    checkpoints = journal.record.checkpoints
    before = {old.folder for old in checkpoints.get(saved.trial, {}).values()}
    journal.log(saved)
    for folder in before - {kept.folder for kept in checkpoints[saved.trial].values()}:
        _delete(journal, folder)


def sweep(journal: Journal, trial: int) -> None:
    """Whatever else lies in an ended trial's folder of checkpoints: a process was killed before it could say so."""
    record = journal.record
    folder = record.folder / trial_name(trial) / CHECKPOINTS
    wanted = {record.folder / saved.folder for saved in record.checkpoints.get(trial, {}).values()}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in wanted:
            shutil.rmtree(path, ignore_errors=True)


def _drop(journal: Journal, trial: int, folder: str) -> None:
    journal.log(events.Dropped(trial, folder))
    _delete(journal, folder)


def _delete(journal: Journal, folder: str) -> None:
    path = journal.record.folder / folder

    def delete() -> None:
        fault("retention-before-delete")
        shutil.rmtree(path, ignore_errors=True)

    journal.after_commit(delete)
