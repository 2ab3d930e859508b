"""The tracked objects of one run: their best copy in memory, their checkpoints on disk, and what is put back when."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from foretell import checkpoint
from foretell.checkpoint import Checkpoint, Snapshot
from foretell.errors import CheckpointError

_SHARE = 0.05  # of the run's time may go into checkpoints that nobody asked for
_BYTES_PER_SECOND = 2e8  # assumed of a disk before the first write was timed


@final
@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint that is whole on disk."""

    name: str
    digest: str
    step: int
    newest: bool
    best: bool
    seconds: float


@final
class Keeper:
    """Copies, saves and restores what a run tracks.

    Args:
        folder: where checkpoints go, or None to keep the best in memory alone.
        label: part of every checkpoint's name that no other attempt uses.
        restore: (folder, digest, step) of the checkpoints "newest" and "best" to go on from, or of "parent" to inherit.
        must_restore: whether tracking without anything to restore is an error: untrained weights would be measured.
    """

    def __init__(
        self,
        folder: Path | None,
        label: str,
        restore: Mapping[str, tuple[str, str, int]],
        *,
        must_restore: bool = False,
    ) -> None:
        self._folder, self._label, self._sources = folder, label, dict(restore)
        self._must_restore = must_restore
        self._objects: dict[str, Any] = {}
        self._best: tuple[int, Snapshot] | None = None
        self._best_saved: int | None = None  # step of the best checkpoint on disk
        self._newest: Snapshot | None = None  # held until the loop begins, for its random state
        self._saving = 0.0  # seconds spent on checkpoints that nobody asked for
        self._last_save = 0.0
        self.refused: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()  # what a restore left alone and might be missed
        for stale in folder.glob("*.staging-*") if folder is not None and folder.is_dir() else ():
            shutil.rmtree(stale, ignore_errors=True)  # of a process that was killed while it wrote

    @property
    def tracked(self) -> bool:
        """Whether anything is tracked whose state can be kept."""
        return bool(self._objects)

    @property
    def complete(self) -> bool:
        """Whether everything tracked can be kept, so that the run can be paused."""
        return self.tracked and not self.refused

    def track(self, objects: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Take the objects in charge and restore them at once, if there is something to restore from.

        Returns:
            What was put back, in words, or None; and the progress that was saved with it.
        """
        if self._objects:
            raise CheckpointError("run.track was called twice: pass everything in one call, once it is built.")
        self.refused = checkpoint.unsupported(objects)
        self._objects = {name: value for name, value in objects.items() if name not in self.refused}
        if not self._objects:
            return None, {}
        if "newest" in self._sources:
            return self._resume()
        if "best" in self._sources:
            folder, digest, step = self._sources["best"]
            Checkpoint(Path(folder), digest, step).restore(**self._objects)
            return f"best weights of epoch {step}", {}
        if "parent" in self._sources:
            folder, digest, step = self._sources["parent"]
            snapshot, _ = checkpoint.read(Path(folder), digest)
            self.notes = checkpoint.restore(self._objects, snapshot, kind="inherit", rng=False)
            return f"inherited the weights of epoch {step}", {}
        if self._must_restore:
            raise CheckpointError(
                "The winner's weights were not kept, so there is nothing to restore: call run.track in the training "
                "function, or measure without run.track."
            )
        return None, {}

    def _resume(self) -> tuple[str, dict[str, Any]]:
        folder, digest, step = self._sources["newest"]
        snapshot, progress = checkpoint.read(Path(folder), digest)
        self.notes = checkpoint.restore(self._objects, snapshot, rng=False)
        self._newest = snapshot
        if "best" in self._sources:
            best_folder, best_digest, best_step = self._sources["best"]
            same = best_digest == digest
            best = snapshot if same else checkpoint.read(Path(best_folder), best_digest)[0]
            self._best, self._best_saved = (best_step, best), best_step
        return f"everything as of epoch {step}", progress

    def begin(self) -> None:
        """The loop begins: set the random state back, so that what was built before it does not matter."""
        if self._newest is not None:
            checkpoint.restore({}, Snapshot({}, self._newest.rng), rng=True)
            self._newest = None

    def remember_best(self, step: int) -> None:
        """Copy everything tracked in memory: this is the best so far."""
        if self.tracked:
            self._best = (step, checkpoint.capture(self._objects, rng=False))

    def restore_best(self, step: int | None) -> str | None:
        """Put the best weights back; None if there are none, or if they are the current ones (`step`)."""
        if self._best is None:
            return None
        best_step, snapshot = self._best
        if best_step != step:
            checkpoint.restore(self._objects, snapshot, rng=False)
        return f"best weights of epoch {best_step} restored"

    def due(self, elapsed: float) -> bool:
        """Whether a checkpoint that nobody asked for stays within its share of the run's time."""
        if not self.complete or self._folder is None:
            return False
        expected = self._last_save or (self._best[1].nbytes / _BYTES_PER_SECOND if self._best else 0.0)
        return self._saving + expected <= _SHARE * elapsed

    def save(self, step: int, progress: Mapping[str, Any], *, asked: bool) -> Iterator[Written]:
        """Write the newest state, and the best if it is another and not yet on disk.

        Args:
            step: epochs trained.
            progress: plain JSON data that goes with the newest.
            asked: whether it was asked for (pause, stop, rung), so that it does not count against the share.
        """
        begun = time.monotonic()
        if self._best is not None and self._best[0] not in (step, self._best_saved):
            yield self._write(*self._best, {}, newest=False, best=True)
            self._best_saved = self._best[0]
        best = self._best is not None and self._best[0] == step
        yield self._write(step, checkpoint.capture(self._objects, rng=True), progress, newest=True, best=best)
        self._best_saved = step if best else self._best_saved
        self._last_save = time.monotonic() - begun
        self._saving += 0.0 if asked else self._last_save

    def save_best(self) -> Written | None:
        """Write the best weights if they are not on disk; None if they are, or if there are none."""
        if self._best is None or self._folder is None or self._best[0] == self._best_saved:
            return None
        self._best_saved = self._best[0]
        return self._write(*self._best, {}, newest=False, best=True)

    def _write(
        self, step: int, snapshot: Snapshot, progress: Mapping[str, Any], *, newest: bool, best: bool
    ) -> Written:
        assert self._folder is not None, "a run without a folder is never asked to save"
        name = f"epoch-{step:06d}-{self._label}{'' if newest else '-best'}"
        begun = time.monotonic()
        digest = checkpoint.write(self._folder / name, snapshot, progress)
        return Written(name, digest, step, newest, best, time.monotonic() - begun)
