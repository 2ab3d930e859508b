"""`foretell logs` and `stop`: files in a study's folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import final

import click

from foretell.cli._output import document, talk
from foretell.cli._reader import Reader, opened
from foretell.cli._show import chosen
from foretell.errors import StudyError
from foretell.trial import trial_name

_PAUSE = 0.3  # seconds between two looks at a file that grows


def logs(store: Path, name: str, trial: int, *, attempt: int | None, follow: bool, as_json: bool) -> int:
    """Print what a trial has printed."""
    reader = Reader(store, opened(store), name)
    attempts = chosen(reader, trial).attempts
    if attempt is not None and attempt > attempts:
        raise StudyError(f"Trial {trial} has had {attempts} attempts, so there is no attempt {attempt}.")
    folder = reader.place / trial_name(trial)
    if as_json:
        numbers = range(1, attempts + 1) if attempt is None else (attempt,)
        found = [{"attempt": each, "output": _text(folder, each)} for each in numbers]
        document({"study": name, "trial": trial, "attempts": found})
        return 0
    shown = _Shown(folder, attempt)
    shown.print(attempts)
    if not follow and not shown.anything:
        talk(f"Trial {trial} has printed nothing." if attempts else f"Trial {trial} has not been started yet.")
    while follow and not reader.record.states[trial].ended and reader.holder is not None:
        time.sleep(_PAUSE)
        reader.refresh()
        shown.print(reader.record.attempts[trial])
    return 0


def stop(store: Path, name: str, *, as_json: bool) -> int:
    """Ask the process that runs a study to end it."""
    reader = Reader(store, opened(store), name)
    holder = reader.holder
    running = holder is not None and holder.kind == "run"
    if running:
        reader.place.mkdir(parents=True, exist_ok=True)
        (reader.place / "stop").touch()
    if as_json:
        document({"study": name, "stopping": running, "pid": holder.pid if holder is not None and running else None})
    elif running:
        talk(f"Asked {holder} to save what runs of {name} and end. To see it: foretell show {name} --store {store}")
    else:
        talk(f"Nothing runs {name}: {reader.standing}.")
    return 0


@final
class _Shown:
    """What has been printed of each attempt's output."""

    def __init__(self, folder: Path, attempt: int | None) -> None:
        self._folder, self._attempt = folder, attempt
        self._read: dict[int, int] = {}

    @property
    def anything(self) -> bool:
        """Whether there was something to print."""
        return any(self._read.values())

    def print(self, attempts: int) -> None:
        """Print what is new."""
        for each in range(1, attempts + 1) if self._attempt is None else (self._attempt,):
            if each not in self._read:
                self._read[each] = 0
                if attempts > 1:
                    talk(f"--- attempt {each}")
            path = _path(self._folder, each)
            if not path.is_file():
                continue
            with path.open("rb") as file:
                file.seek(self._read[each])
                data = file.read()
            self._read[each] += len(data)
            click.echo(data.decode(errors="replace"), nl=False)


def _path(folder: Path, attempt: int) -> Path:
    return folder / f"output-{attempt}.log"


def _text(folder: Path, attempt: int) -> str | None:
    path = _path(folder, attempt)
    return path.read_text(errors="replace") if path.is_file() else None
