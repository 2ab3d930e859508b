"""Everything foretell raises, as one tree.

    ForetellError
    ├── SpaceError            a space, a parameter or a value that makes no sense
    ├── BudgetError           a budget that cannot be read
    ├── MetricError           the objective was not reported, or under another name
    ├── ReportError           a report that contradicts an earlier one
    ├── CheckpointError       weights that cannot be saved or are not what was saved
    ├── TrainingError         the user's function failed, or failed too often
    ├── FunctionError         a function that cannot be sent to a training process
    ├── TransferError         a source that does not fit the target, or cannot be scored on it
    ├── StudyError            a study that is not there, or is used in a way it cannot be
    │   └── StudyMismatch     a study resumed with another space, metric or direction
    ├── MissingExtra          an optional package is not installed
    └── StoreError            the place where studies live
        ├── StoreBusy         another process is writing
        ├── StoreFull         no space left
        ├── StoreReadOnly     no permission to write
        ├── StoreCorrupt      the file is damaged
        ├── StoreTooNew       written by a newer foretell
        └── StoreOnNetwork    a network file system, where locks cannot be trusted

`Paused` stands outside: it is a BaseException, because it must pass through the user's `except Exception`.
Every message names the cause and the cure. The page `docs/errors.md` lists them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ForetellError(Exception):
    """The root: catch this to catch everything that foretell raises on purpose."""


class SpaceError(ForetellError, ValueError):
    """A space, a parameter or a value that makes no sense."""


class BudgetError(ForetellError, ValueError):
    """A budget that cannot be read."""


class MetricError(ForetellError, ValueError):
    """The objective was not reported, or was reported under another name."""


class ReportError(ForetellError, ValueError):
    """A report that contradicts an earlier one, or is not a number."""


class CheckpointError(ForetellError):
    """Weights that cannot be saved, or are not what was saved."""


class TrainingError(ForetellError):
    """The user's training function failed, or failed too often."""


class FunctionError(ForetellError, TypeError):
    """A function that cannot be sent to a training process."""


class StudyError(ForetellError):
    """A study that is not there, or is used in a way it cannot be."""


class StudyMismatch(StudyError):
    """A study resumed with another space, metric or direction."""


class TransferError(ForetellError, ValueError):
    """A source that does not fit the target, or cannot be scored on it."""


class MissingExtra(ForetellError, ImportError):
    """An optional package is not installed."""


class StoreError(ForetellError):
    """The place where studies live cannot be used."""


class StoreBusy(StoreError):
    """Another process is writing to the store."""


class StoreFull(StoreError):
    """No space is left on the store's disk."""


class StoreReadOnly(StoreError):
    """The store's folder cannot be written to."""


class StoreCorrupt(StoreError):
    """The store's file is damaged."""


class StoreTooNew(StoreError):
    """The store was written by a newer foretell."""


class StoreOnNetwork(StoreError):
    """The store lies on a network file system, where locks cannot be trusted."""


class Paused(BaseException):
    """Raised by `Run.epochs` when a run is paused: nothing after the loop may run, for it will go on later."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known name and lists the others, or says that there are none."""
    names = sorted(known)
    if not names:
        return "There are none."
    near = difflib.get_close_matches(name, names, n=1)
    offer = f"Did you mean {near[0]!r}? " if near else ""
    return f"{offer}Known: {', '.join(names)}."
