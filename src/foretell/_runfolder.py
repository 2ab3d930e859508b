"""The folder of a run without a study: the same program run again goes on where it was."""

from __future__ import annotations

import json
import os
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
        self._valid: dict[str, list[Any]] = {}

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

    def resumed(self, task: Task) -> Task:
        """The task that goes on from what the folder holds, or the same task if it holds nothing."""
        path = self._folder / _FILE
        if not path.exists():
            return task
        try:
            self._valid = json.loads(path.read_text())["valid"]
            restore = {
                kind: (str(self._folder / name), digest, step) for kind, (name, digest, step) in self._valid.items()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): move the folder away to begin anew.") from error
        if "newest" not in restore:
            return task
        folder, digest, step = restore["newest"]
        _, progress = Checkpoint(Path(folder), digest, step).read()
        curve = [(int(at), float(loss), float(seconds)) for at, loss, seconds in progress["curve"]]
        return replace(task, restore=restore, curve=curve)

    def ended(self, verdict: Verdict) -> None:
        """The run is over; what is valid stays, so that its best weights can be loaded."""
        self._write({"valid": self._valid, "verdict": verdict.to_json()})

    def write_log(self, step: int, logged: Mapping[str, list[float]]) -> None:
        """Append the values logged in one epoch."""
        with (self._folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": step, **logged}) + "\n")

    def _write(self, data: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = self._folder / (_FILE + ".staged")
        with staged.open("w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._folder / _FILE)

    def _drop_old(self) -> None:
        import shutil  # noqa: PLC0415

        kept = {Path(place[0]).name for place in self._valid.values()}
        for path in (self._folder / "checkpoints").iterdir():
            if path.name not in kept:
                shutil.rmtree(path)
