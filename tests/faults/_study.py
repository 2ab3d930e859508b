"""The study that the tests of this folder break: a script that a fresh interpreter runs, `python _study.py '{...}'`.

Its trainings say what they do in lines "pid trial attempt what digest" on a FIFO: "begin", the step after each
`run.report` has returned, "twice" if the trial is being trained by another process too, "hang" and "end".
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import foretell as ft
from foretell.errors import StoreFull
from foretell.schedulers.asha import ASHA

HORIZON = 9
SIZE = 64
SPACE = ft.Space(lr=ft.Float(1e-3, 1.0, log=True), how=ft.Choice(["well", "raise", "_exit", "kill", "memory", "exit"]))


class Settings(NamedTuple):
    """What a test wants of the study."""

    folder: str
    budget: str = ""
    train: str = "steady"
    retries: int = 1
    workers: int = 2
    scheduler: str = "asha"
    grace: float = 30.0
    enqueue: tuple[str, ...] = ()
    calls: int = 0  # of ask and tell, instead of a run
    again: bool = False  # run once more in the same process when the disk was full, which it then is no longer
    place: str = ""  # of the store, if it is not to lie in the folder

    @property
    def store(self) -> Path:
        return Path(self.place or self.folder) / "store"


def advance(weights: np.ndarray, params: dict[str, Any], rng: np.random.Generator, noise: list[float]) -> float:
    """One epoch, in place; returns the loss. `noise` comes from the global generators."""
    weights *= 1 - params["lr"] / 2
    weights += params["lr"] * rng.normal(size=SIZE) + noise[0] + noise[1]
    return float(np.mean(weights**2))


def digest(weights: np.ndarray) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()[:16]


def undisturbed(params: dict[str, Any], seed: int) -> list[str]:
    """The digests of the weights after 0, 1, ..., HORIZON epochs of a training that nobody broke."""
    weights, rng = np.zeros(SIZE), np.random.default_rng(seed)
    python, legacy = random.Random(seed), np.random.RandomState(seed % 2**32)
    digests = [digest(weights)]
    for _ in range(HORIZON):
        advance(weights, params, rng, [python.random(), legacy.random_sample()])
        digests.append(digest(weights))
    return digests


class Voice(NamedTuple):
    """How a training speaks to the test."""

    folder: str

    def say(self, run: ft.Run, what: object, weights: np.ndarray) -> None:
        trial, attempt = run.identity
        line = f"{os.getpid()} {trial} {attempt} {what} {digest(weights)}\n"
        channel = os.open(os.path.join(self.folder, "lines"), os.O_WRONLY)
        os.write(channel, line.encode())  # shorter than PIPE_BUF, so whole or not at all
        os.close(channel)

    @contextlib.contextmanager
    def alone(self, run: ft.Run, weights: np.ndarray) -> Iterator[None]:
        """Say so if somebody else trains the same trial; the study's own lock is not asked.

        A process that is killed lets go of its descriptors in their order: the lowest, so that this is free before the
        study's lock is, for which the next attempt may be waiting.
        """
        with open(os.path.join(self.folder, f"lock-{run.identity[0]}"), "w") as file:
            os.dup2(file.fileno(), 0)
        try:
            fcntl.lockf(0, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.say(run, "twice", weights)
        try:
            yield
        finally:
            fcntl.lockf(0, fcntl.LOCK_UN)

    def steady(self, run: ft.Run) -> None:
        weights = np.zeros(SIZE)
        with self.alone(run, weights):
            self.say(run, "begin", weights)
            run.track(weights=weights)
            for epoch in run.epochs(HORIZON):
                loss = advance(weights, run.params, run.rng, [random.random(), np.random.random()])
                run.report(val_loss=loss)
                self.say(run, epoch + 1, weights)
            self.say(run, "end", weights)

    def hanging(self, run: ft.Run) -> None:
        weights = np.zeros(SIZE)
        with self.alone(run, weights):
            self.say(run, "begin", weights)
            run.track(weights=weights)
            for epoch in run.epochs(HORIZON):
                if epoch == 1:
                    self.say(run, "hang", weights)
                    os.close(os.open(os.path.join(self.folder, "never"), os.O_RDONLY))  # nobody ever writes
                weights += 1
                run.report(val_loss=1.0)
                self.say(run, epoch + 1, weights)

    def cramped(self, run: ft.Run) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # bytes: no room for a checkpoint
        self.steady(run)

    def failing(self, run: ft.Run) -> None:
        print(f"seed {run.seed}", flush=True)
        match run.params["how"]:
            case "raise":
                raise RuntimeError("as the test wants")
            case "_exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                raise MemoryError
            case "exit":
                sys.exit("no more")
        run.report(val_loss=1.0)

    def broken(self, run: ft.Run) -> None:
        raise RuntimeError("as the test wants")


def call(settings: Settings, study: ft.Study) -> None:
    """A loop of the user's own, beside others on the same study."""
    for _ in range(settings.calls):
        run = study.ask()
        print(run.identity[0], flush=True)
        study.tell(run, run.params["lr"])


def main(settings: Settings) -> None:
    if settings.calls:
        sys.stdin.readline()  # all begin at once
    scheduler = ASHA(first_rung=1) if settings.scheduler == "asha" else settings.scheduler
    study = ft.Study(
        SPACE, minimize="val_loss", store=settings.store, sampler="random_search", scheduler=scheduler,
        retries=settings.retries,
    )  # fmt: skip
    study._coordinator.policy = replace(study._coordinator.policy, grace=settings.grace)
    if settings.calls:
        call(settings, study)
        return
    if not len(study.trials):
        for how in settings.enqueue:
            study.enqueue({"lr": 0.1, "how": how})
    train = getattr(Voice(settings.folder), settings.train)
    for last in (not settings.again, True):
        try:
            study.run(train, settings.budget, workers=settings.workers, progress="none")
            break
        except StoreFull:
            if last:
                raise
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
