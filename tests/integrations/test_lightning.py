"""The binding for Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foretell import Objective, Patience, Run
from foretell.attempt import attempt
from foretell.errors import MetricError
from foretell.executors import Task, Work
from tests.conftest import needs
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario

torch = needs("torch")
lightning = needs("lightning")

from foretell.integrations.lightning import Foretell  # noqa: E402

# Warnings of Lightning about itself and about how small these trainings are.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:You called `self.log.*logger"),
]


class Counting(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
    """A weight that grows by 1 with each step of Adam, for its gradient is always -1."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job, self.trained = job, 0
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, _: int) -> Any:
        if self.held + 1 == self.job.fails_in:
            raise BoomError
        self.trained += 1
        return -self.weight

    def validation_step(self, batch: Any, _: int) -> None:
        if not self.trainer.sanity_checking:
            self.log(Lightning.metric, self.job.value(self.held))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1.0, eps=1e-9)

    @property
    def held(self) -> int:
        return round(self.weight.item())


def trainer(**settings: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lightning.Trainer(accelerator="cpu", **{"enable_checkpointing": False, **quiet, **settings})


def batches(count: int = 1) -> Any:
    return torch.utils.data.DataLoader(torch.ones(count, 1))


class Training:
    batches = 1

    def __init__(self, job: Job, module: Any = None, binding: Any = None) -> None:
        self.job, self.module = job, module or Counting(job)
        metric = Lightning.metric + ("x" if job.misspelt else "")
        own = {} if job.run is not None else {"monitor": metric, "mode": "max" if job.maximize else "min"}
        self.binding = binding or Foretell(job.run, patience=job.patience, stopping=job.stopping, **own)

    def fit(self, *others: Any, ckpt_path: Any = None, **settings: Any) -> None:
        callbacks: list[Any] = [self.binding, *others]
        if self.job.rival is not None:
            callbacks.append(lightning.pytorch.callbacks.EarlyStopping(Lightning.metric, patience=self.job.rival))
        given = {"max_epochs": len(self.job.values), "check_val_every_n_epoch": self.job.every, **settings}
        self.trainer = trainer(callbacks=callbacks, **given)
        self.trainer.fit(self.module, batches(self.batches), batches(1), ckpt_path=ckpt_path)

    @property
    def run(self) -> Any:
        return self.binding.run

    @property
    def trained(self) -> int:
        return self.module.trained

    @property
    def held(self) -> int:
        return self.module.held

    @property
    def moments(self) -> int:
        return int(sum(state["step"].item() for state in self.trainer.optimizers[0].state.values()))


class Lightning:
    metric = "val_loss"
    promises = frozenset(suite.PROMISES)

    def prepare(self, job: Job) -> Training:
        return Training(job)


@pytest.mark.parametrize("check", suite.cases(Lightning()))
def test_the_binding_keeps_its_promises(check: Scenario) -> None:
    check(Lightning())


# --- what only Lightning has -----------------------------------------------------------------------------------------


def fitted(job: Job, module: Any = None, binding: Any = None, **settings: Any) -> Training:
    training = Training(job, module, binding)
    training.fit(**settings)
    return training


def stopper(**settings: Any) -> Any:
    return Foretell(monitor=Lightning.metric, **settings)


class Logging(Counting):
    """Logs in each way that Lightning knows, and keeps what the end of an epoch found."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.sane, self.ends = 0, []

    def validation_step(self, batch: Any, index: int) -> None:
        self.sane += self.trainer.sanity_checking
        self.log("val_loss", -1.0 if self.trainer.sanity_checking else self.job.value(self.held))

    def training_step(self, batch: Any, index: int) -> Any:
        loss = super().training_step(batch, index)
        self.log("train_loss", loss.detach(), on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.ends.append(self.held)
        self.log("late", float(self.job.value(self.held)))


def test_the_sanity_check_is_no_check() -> None:
    job = Job((5, 4, 3, 4, 4), patience=2)
    training = fitted(job, Logging(job), num_sanity_val_steps=1)
    assert (training.module.sane, list(training.run.curve.losses)) == (1, [5, 4, 3, 4, 4])


@pytest.mark.parametrize("metric", ["late", "train_loss", "train_loss_epoch"])
def test_metrics_of_training_can_be_watched(metric: str) -> None:
    job = Job((5, 4, 6, 6, 6))
    binding = Foretell(monitor=metric, patience=2, mode="max" if metric != "late" else "min")
    training = fitted(job, Logging(job), binding)
    # The loss of a step is minus the weight before it, so that it only falls.
    expected = [5, 4, 6, 6] if metric == "late" else [0, -1, -2]
    assert [round(binding.run._objective.value(loss)) for loss in binding.run.curve.losses] == expected
    assert training.held == (2 if metric == "late" else 1)


def test_nothing_old_is_reported_again() -> None:
    job = Job((None, 5, None, 6, None, 6))
    run = Run(minimize="val_loss")
    reported: list[tuple[int, list[str]]] = []
    run.report = lambda metrics: reported.append((run._epoch, sorted(metrics)))  # type: ignore[method-assign,assign,func-returns-value]
    fitted(Job(job.values, run=run), LoggingSome(job))
    assert reported[:2] == [
        (1, ["train_loss", "train_loss_epoch", "train_loss_step"]),
        (2, ["train_loss", "train_loss_epoch", "train_loss_step", "val_loss"]),
    ]
    assert [step for step, names in reported if "val_loss" in names] == [2, 4, 6]


class LoggingSome(Logging):
    def on_train_epoch_end(self) -> None:
        return


def test_before_min_epochs_a_rule_can_take_it_back() -> None:
    recovers = fitted(Job((5, 6, 6, 6, 3, 2, 1), patience=2), min_epochs=5)
    assert (recovers.trained, recovers.held) == (7, 7)
    ends = fitted(Job((5, 6, 6, 6, 6, 6, 1), patience=2), min_epochs=5)
    assert (ends.trained, ends.held) == (5, 1)


def test_several_validations_in_an_epoch_are_as_many_checks() -> None:
    job = Job((9, 8, 7, 9, 9, 9, 9, 9), patience=3)
    training = Training(job)
    training.batches = 4
    training.fit(val_check_interval=0.5, max_epochs=4, num_sanity_val_steps=0)
    assert list(training.run.curve.losses) == [8, 9, 9, 9]
    assert (training.trained, training.held) == (8, 2)
    once = Training(job, binding=stopper(patience=3, check_on_train_epoch_end=True))
    once.batches = 4
    once.fit(val_check_interval=0.5, max_epochs=2)
    assert list(once.run.curve.losses) == [9, 9]


def test_goal_and_bound_end_it() -> None:
    goal = fitted(Job((5, 4, 3, 2)), binding=stopper(stopping_threshold=3.5))
    assert (goal.trained, goal.run.verdict.rule) == (3, "threshold")
    bound = fitted(Job((5, 4, 30, 2)), binding=stopper(divergence_threshold=20.0))
    assert (bound.trained, bound.held, bound.run.verdict.rule) == (3, 2, "divergence")
    assert bound.binding.stopped_epoch == 2


def test_what_is_not_finite_may_be_no_check() -> None:
    values = (5, float("nan"), 4, float("inf"), 6, 6)
    training = fitted(Job(values), binding=stopper(check_finite=False, patience=2))
    assert (training.trained, training.held) == (6, 3)


def test_a_metric_may_be_missing_if_told() -> None:
    training = fitted(Job((5, 4)), binding=Foretell(monitor="other", strict=False))
    assert (training.trained, len(training.run.curve)) == (2, 0)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_checkpoint_of_lightning_takes_up_the_count(tmp_path: Path) -> None:
    values = (5, 4, 6, 6, 6, 6, 1)
    saving = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=tmp_path, save_last=True)
    first = Training(Job(values[:4], patience=3))
    first.fit(saving, enable_checkpointing=True, max_epochs=4)
    assert not first.run.verdict.stop
    second = Training(Job(values, patience=3))
    second.fit(max_epochs=7, ckpt_path=str(tmp_path / "last.ckpt"))
    assert list(second.run.curve.losses) == [5, 4, 6, 6, 6]
    assert second.trained == 1
    assert second.run.verdict.step == 5


def test_settings_are_not_taken_from_a_checkpoint() -> None:
    old, new = stopper(patience=3), stopper(patience=50)
    new.load_state_dict(old.state_dict())
    assert (new.patience, new.rule) == (50, Patience(50))


class Real(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
    """Shuffled data, dropout, momentum, a schedule by epochs and one by batches."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        self.ends: list[tuple[int, int, list[float]]] = []

    def training_step(self, batch: Any, _: int) -> Any:
        return (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self.training_step(batch, index))

    def on_train_epoch_end(self) -> None:
        self.ends.append((self.current_epoch, self.global_step, self.trainer.optimizers[0].param_groups[0]["lr"]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
        by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        by_batch = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        return [optimizer], [{"scheduler": by_epoch}, {"scheduler": by_batch, "interval": "step"}]


def test_a_real_training_resumes_to_the_bit(tmp_path: Path) -> None:
    data = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))

    def train(pauses: list[int]) -> tuple[list[Any], list[Any], Any]:
        restore: dict[str, tuple[str, str, int]] = {}
        curve: list[Any] = []
        ends: list[Any] = []
        for number, after in enumerate([*pauses, 99], start=1):
            link = suite.Deciding(tmp_path / str(pauses), "pause", after)
            link.folder.mkdir(exist_ok=True)
            link.restore |= restore
            runs: list[Run] = []
            module = Real()

            def function(run: Run) -> None:
                runs.append(run)  # noqa: B023 - called in this turn
                loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
                made = trainer(max_epochs=6, callbacks=[Foretell(run)], num_sanity_val_steps=0)
                made.fit(module, loader, torch.utils.data.DataLoader(data, batch_size=12))  # noqa: B023

            torch.manual_seed(5)
            module = Real()
            attempt(
                Work(function, Objective("val_loss")),
                Task(0, number, {}, 5, str(link.folder), dict(link.restore), list(curve)),
                link,
            )
            assert not link.ended.error, link.ended.error
            restore, curve = link.restore, [tuple(point[:3]) for point in runs[0].curve]
            ends += module.ends
        return [point[1] for point in curve], ends, module.state_dict()

    whole, paused = train([]), train([2, 1])
    assert paused[:2] == whole[:2]
    for name, tensor in whole[2].items():
        assert torch.equal(tensor, paused[2][name])


def test_a_study_s_stop_makes_no_empty_epoch(tmp_path: Path) -> None:
    job = Job((5, 3, 4, 4, 4))
    link, modules = suite.Deciding(tmp_path, "stop", after=3), []

    def function(run: Run) -> None:
        given = Job(job.values, run=run)
        modules.append(Logging(given))
        fitted(given, modules[0], min_epochs=5)

    attempt(Work(function, Objective("val_loss")), Task(0, 1, {}, 3, str(tmp_path)), link)
    assert not link.ended.error, link.ended.error
    assert (modules[0].ends, modules[0].held) == ([1, 2, 3], 2)
    assert link.ended.step == 3


def test_arguments_that_make_no_sense_say_so() -> None:
    with pytest.raises(MetricError, match="monitor='val_loss', or the run"):
        Foretell()
    with pytest.raises(TypeError, match="monitor='val_loss'"):
        Foretell("val_loss")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="watches 'a', and not 'b'"):
        Foretell(Run(minimize="a"), monitor="b")
