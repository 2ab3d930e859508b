"""A small task and network for the tests of fine-tuning, and a run of it that can be paused anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import foretell as ft
from foretell.executors import Reply, Task, Work
from foretell.transfer import FineTune
from foretell.trial import Verdict
from tests.conftest import needs

torch = needs("torch")
nn = torch.nn
EPOCHS = 9
BUMPS = [0.4, 0.0, 0.4, 0.5, 0.0, 0.6, 0.7, 0.1, 0.2]  # of the reported loss: the best of a phase is not its last


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        nn.Linear(12, 2),
    )
    with torch.no_grad():
        for _ in range(3):  # statistics of a source
            model(2 * torch.randn(16, 1, 6, 6) + 1)
    return model


def task() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(24) % 2
    inputs = torch.randn(24, 1, 6, 6, generator=generator)
    inputs[labels == 1, :, :3] += 0.7
    return inputs, labels


def train_epoch(model: Any, optimizer: Any) -> None:
    inputs, labels = task()
    model.train()
    for rows in torch.randperm(len(labels)).split(8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()


def loss(model: Any) -> float:
    inputs, labels = task()
    model.eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(inputs), labels))


class Pausing:
    """A study that pauses a run after some epochs, and remembers what was saved."""

    def __init__(self, folder: Path, after: int | None) -> None:
        self.folder, self.after = folder, after
        self.restore: dict[str, tuple[str, str, int]] = {}

    def send(self, event: Any) -> Reply:
        name = type(event).__name__
        if name == "Saved":
            for kind in ("newest", "best"):
                if getattr(event, kind):
                    self.restore[kind] = (str(self.folder / "checkpoints" / event.folder), event.digest, event.step)
        if name == "Reached":
            return Reply(self.after, Verdict("pause", "test", "the test wants it"))
        return Reply(until=self.after)

    def asked(self) -> bool:
        return False


def fine_tuned(folder: Path, settings: dict[str, Any], pauses: list[int]) -> tuple[Any, Any, list[float]]:
    """Train for EPOCHS epochs, paused after each of the epochs given: the model, the tune and the losses."""
    restore: dict[str, tuple[str, str, int]] = {}
    objective = ft.Objective("loss")
    curve: list[Any] = []
    for attempt, pause in enumerate([*pauses, None], start=1):
        torch.manual_seed(99 if attempt == 1 else attempt)  # a resumed process has other random numbers
        link = Pausing(folder, pause)
        link.restore = restore
        points = tuple(point for point in curve if point[0] <= restore["newest"][2]) if restore else ()
        work = Work(None, objective, None, restore_best=settings.get("restore_best", False))
        run = ft.Run.of_task(Task(0, attempt, {}, 5, str(folder), restore=restore, curve=points), work, link)
        model = network()
        options = {key: value for key, value in settings.items() if key != "restore_best"}
        tune = FineTune(model, torch.optim.AdamW, **options)
        run.track(model=model, tune=tune)
        if attempt == 1:
            torch.manual_seed(7)
        try:
            for epoch in tune.epochs(run, EPOCHS):
                train_epoch(model, tune.optimizer)
                run.report(loss=loss(model) + BUMPS[epoch])
        except ft.Paused:
            restore = dict(link.restore)
        curve = [(point.step, point.loss, 0.0) for point in run.curve]
    return model, tune, [value for _, value, _ in curve]
