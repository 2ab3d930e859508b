"""A trial of an earlier study, found by a text such as "study:cnn#12"."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from foretell import _family
from foretell.objective import Objective
from foretell.record import Record
from foretell.space import Space
from foretell.stores import Store
from foretell.transfer import TransferError
from foretell.trial import Trial

_PATTERN = re.compile(r"study:(?P<name>[^#]+)(?:#(?P<number>\d+))?")


def is_trial(text: object) -> bool:
    """Whether this is the address of a trial."""
    return isinstance(text, str) and text.startswith("study:")


def find(address: str, store: str | Path | Store | None = None) -> Trial:
    """The trial at an address; without a number, the winner of the study.

    Args:
        address: "study:name#number" or "study:name".
        store: its folder, or a `Store`; None takes the folder in FORETELL_STORE, or "studies".

    Raises:
        TransferError: there is no such trial or store.
        StudyError: there is no such study in the store.
    """
    match = _PATTERN.fullmatch(address)
    if match is None:
        raise TransferError(f"{address!r} is no address of a trial: write 'study:name#number', as in 'study:cnn#12'.")
    if store is None or isinstance(store, str | Path):
        folder = Path(store or os.environ.get("FORETELL_STORE", "studies"))
        if not (folder / "store.db").is_file():
            raise TransferError(
                f"There is no store in {folder}, where {address!r} was looked for: give store='folder'."
            )
        opened: Store = _family.load("stores", "sqlite")(folder)
        try:
            return _read(address, opened, match["name"], match["number"])
        finally:
            opened.close()
    return _read(address, store, match["name"], match["number"])


def _read(address: str, store: Store, name: str, number: str | None) -> Trial:
    spec: dict[str, Any] = store.spec(name)
    params = {key: value for key, value in spec["space"].items() if key != "constraints"}
    folder = store.folder / name if store.folder is not None else None
    record = Record(Space.from_json(params), Objective(spec["metric"], spec["direction"]), spec["value"], folder)
    for entry in store.entries(name):
        record.apply(entry.event, entry.time)
    wanted = record.best if number is None else int(number)
    if wanted is None or wanted >= len(record):
        have = f"trials 0 to {len(record) - 1}" if len(record) else "no trials"
        raise TransferError(
            f"There is no such trial as {address!r}: the study has {have}, and a winner only if one ended."
        )
    return record.trial(wanted)
