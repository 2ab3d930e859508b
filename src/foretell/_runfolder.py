"""The folder of a run without a study: the same program run again goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from foretell import events
from foretell.checkpoint import Checkpoint
from foretell.errors import CheckpointError
from foretell.executors import Reply, Task
from foretell.trial import Verdict

_FILE = "run.json"


@final
class RunFolder:
    """Stands in for a coordinator: grants everything, and keeps in `run.json` which checkpoints are valid.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = self._read()
        self._valid: dict[str, list[Any]] = self._state.get("valid", {})

    @property
    def seed(self) -> int | None:
        """Of the run that the folder holds."""
        return self._state.get("seed")

    def send(self, event: events.Event) -> Reply:
        """Remember a checkpoint; everything else needs no answer but yes."""
        if isinstance(event, events.Saved):
            place = ["checkpoints/" + event.folder, event.digest, event.step]
            self._valid.update({kind: place for kind in ("newest", "best") if getattr(event, kind)})
            self._write({"valid": self._valid})
            self._drop_old()
        return Reply()

    def asked(self) -> bool:
        """Nobody asks."""
        return False

    def begun(self, task: Task) -> Task:
        """One more attempt of the run: from what the folder holds, or from the start if it holds nothing."""
        attempt = self._state.get("attempt", 0) + 1
        self._write({"attempt": attempt, "seed": task.seed, "valid": self._valid})
        task = replace(task, attempt=attempt)
        if "newest" not in self._valid:
            return task
        restore = {kind: (str(self._folder / name), digest, step) for kind, (name, digest, step) in self._valid.items()}
        folder, digest, step = restore["newest"]
        _, progress = Checkpoint(Path(folder), digest, step).read()
        curve = [(int(at), float(loss), float(seconds)) for at, loss, seconds in progress["curve"]]
        return replace(task, restore=restore, curve=curve)

    def ended(self, verdict: Verdict) -> None:
        """The run is over; what is valid stays, so that its best weights can be loaded."""
        self._write({"verdict": verdict.to_json()})

    def write_log(self, step: int, logged: Mapping[str, list[float]]) -> None:
        """Append the values logged in one epoch."""
        with (self._folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": step, **logged}) + "\n")

    def _read(self) -> dict[str, Any]:
        path = self._folder / _FILE
        if not path.exists():
            return {}
        try:
            state = json.loads(path.read_text())
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({error}): move the folder away to begin anew.") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{path} is no run's: move the folder away to begin anew.")
        return state

    def _write(self, changes: Mapping[str, Any]) -> None:
        self._state = {**self._state, **changes}
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = self._folder / (_FILE + ".staged")
        with staged.open("w") as file:
            json.dump(self._state, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._folder / _FILE)

    def _drop_old(self) -> None:
        kept = {Path(place[0]).name for place in self._valid.values()}
        for path in (self._folder / "checkpoints").iterdir():
            if path.name not in kept:
                shutil.rmtree(path)
