"""The binding for the Hugging Face Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell import Objective, Run
from foretell.attempt import attempt
from foretell.errors import MetricError
from foretell.executors import Task, Work
from tests.conftest import needs
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario

torch = needs("torch")
transformers = needs("transformers")
needs("accelerate")

from foretell.integrations.transformers import Foretell  # noqa: E402


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the Trainer makes its folder even if nothing is to be saved


class Counting(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """A weight that grows by 1 with each step of Adam, for its gradient is always -1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Any = None) -> dict[str, Any]:
        return {"loss": -self.weight * x.mean()}


class Trainer(transformers.Trainer):  # type: ignore[misc,unused-ignore]
    training: Training

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        if self.training.held + 1 == self.training.job.fails_in:
            raise BoomError
        self.training.trained += 1
        return super().training_step(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = {Transformers.metric: self.training.job.value(self.training.held), "eval_runtime": 0.1}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def arguments(folder: Any, **settings: Any) -> Any:
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
    own = {"eval_strategy": "epoch", "use_cpu": True, "learning_rate": 1.0, "lr_scheduler_type": "constant"}
    return transformers.TrainingArguments(str(folder), **{**quiet, **own, "adam_epsilon": 1e-9, **settings})


DATA = [{"x": torch.ones(1)}]


class Training:
    def __init__(self, job: Job, binding: Any = None) -> None:
        self.job, self.trained, self.model = job, 0, Counting()
        self.binding = binding or Foretell(job.run, early_stopping_patience=job.patience, stopping=job.stopping)

    def fit(self, *others: Any, folder: Any = "unused", data: Any = None, resume: Any = None, **given: Any) -> None:
        metric = Transformers.metric + ("x" if self.job.misspelt else "")
        settings = {} if self.job.run is not None else {"metric_for_best_model": metric}
        callbacks: list[Any] = [self.binding, *others]
        if self.job.rival is not None:
            callbacks.append(transformers.EarlyStoppingCallback(self.job.rival))
        settings |= {"num_train_epochs": len(self.job.values), "greater_is_better": self.job.maximize, **given}
        made = Trainer(
            self.model, arguments(folder, **settings), train_dataset=data or DATA, eval_dataset=DATA,
            callbacks=callbacks,
        )  # fmt: skip
        made.training = self
        self.trainer = made
        with self.binding:
            made.train(resume_from_checkpoint=resume)

    @property
    def run(self) -> Any:
        return self.binding.run

    @property
    def held(self) -> int:
        return round(self.model.weight.item())

    @property
    def moments(self) -> int:
        return int(sum(state["step"].item() for state in self.trainer.optimizer.state.values()))


class Transformers:
    metric = "eval_loss"
    promises = frozenset(suite.PROMISES) - {"late"}

    def prepare(self, job: Job) -> Training:
        return Training(job)


@pytest.mark.parametrize("check", suite.cases(Transformers()))
def test_the_binding_keeps_its_promises(check: Scenario) -> None:
    check(Transformers())


# --- what only the Trainer has ---------------------------------------------------------------------------------------


def fitted(job: Job, binding: Any = None, **settings: Any) -> Training:
    training = Training(job, binding)
    training.fit(**settings)
    return training


def test_with_steps_each_evaluation_is_a_check() -> None:
    job = Job((0, 9, 0, 7, 0, 8, 0, 8, 0, 1), patience=2)
    training = fitted(job, eval_strategy="steps", eval_steps=2, num_train_epochs=5, data=DATA * 2 * 8)
    assert [point[:2] for point in training.run.curve] == [(1, 9), (2, 7), (3, 8), (4, 8)]
    assert (training.trained, training.held) == (8, 4)


def test_the_horizon_counts_the_evaluations() -> None:
    binding = Foretell(early_stopping_patience=9)
    fitted(Job((5,) * 7), binding, eval_strategy="steps", eval_steps=2)
    assert list(binding.run.curve.steps) == [1, 2, 3, 4]
    assert binding.run.step == binding.run._horizon == 4


def test_epochs_before_eval_delay_are_epochs() -> None:
    training = fitted(Job((9, 9, 5, 4, 6, 6, 6), patience=2), eval_delay=3)
    assert list(training.run.curve.steps) == [3, 4, 5, 6]
    assert (training.trained, training.held) == (6, 4)


def test_an_evaluation_before_the_first_step_is_no_check() -> None:
    values = (5, 4, 3, 9)  # before the first step the model holds nothing: values[-1]
    training = fitted(Job(values, patience=3), eval_on_start=True, num_train_epochs=3)
    assert list(training.run.curve.losses) == [5, 4, 3]


def test_an_evaluation_of_ones_own_is_no_check() -> None:
    training = fitted(Job((5, 4), patience=3))
    training.trainer.evaluate()
    assert len(training.run.curve) == 2


def test_names_may_be_written_as_transformers_allows() -> None:
    short = fitted(
        Job((5, 4, 6, 6), run=Run(minimize="loss")), Foretell(Run(minimize="loss"), early_stopping_patience=1)
    )
    assert (short.trained, short.held) == (3, 2)
    named = fitted(Job((5, 4, 6, 6), patience=1), metric_for_best_model="loss")
    assert (named.trained, named.held) == (3, 2)


def test_without_a_metric_it_watches_the_loss() -> None:
    training = fitted(Job((5, 4, 6, 6)), Foretell(), metric_for_best_model=None, greater_is_better=None)
    assert (training.trained, training.held) == (3, 2)


def test_a_trainer_that_never_evaluates_is_told_so() -> None:
    with pytest.raises(MetricError, match="set eval_strategy='epoch'"):
        fitted(Job((5, 4)), eval_strategy="no")


def test_something_else_than_a_run_is_told_so() -> None:
    with pytest.raises(TypeError, match="early_stopping_patience=3"):
        Foretell(3)  # type: ignore[arg-type]


def test_a_checkpoint_of_transformers_takes_up_the_count(tmp_path: Path) -> None:
    values = (5, 4, 6, 6, 6, 6, 1)
    saving = {"save_strategy": "epoch", "folder": tmp_path}
    first = fitted(Job(values, patience=9), num_train_epochs=4, **saving)
    assert first.trained == 4
    second = fitted(Job(values, patience=3), resume=str(tmp_path / "checkpoint-4"), **saving)
    assert [(point.step, point.loss) for point in second.run.curve] == [(1, 5), (2, 4), (3, 6), (4, 6), (5, 6)]
    assert second.trained == 1
    assert second.run.verdict.step == 5


# --- a real, tiny transformer ----------------------------------------------------------------------------------------


def tiny() -> Any:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def sentences() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 20, (24, 6))
    return [{"input_ids": row, "attention_mask": np.ones(6, int), "labels": int(row[0] > 9)} for row in tokens]


class Seen(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
    """What the Trainer says of itself at each step, and the rate."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        rate = objects["optimizer"].param_groups[0]["lr"]
        self.steps.append((round(state.epoch, 3), state.global_step, rate))


def test_a_real_training_resumes_to_the_bit(tmp_path: Path) -> None:
    def train(pauses: list[int]) -> tuple[list[Any], list[Any], Any]:
        restore: dict[str, tuple[str, str, int]] = {}
        curve: list[Any] = []
        seen: list[Any] = []
        models: list[Any] = []
        for number, after in enumerate([*pauses, 99], start=1):
            link = suite.Deciding(tmp_path / str(pauses), "pause", after)
            link.folder.mkdir(exist_ok=True)
            link.restore |= restore
            runs: list[Run] = []
            steps = Seen()

            def function(run: Run) -> None:
                runs.append(run)  # noqa: B023 - called in this turn
                transformers.set_seed(3)
                models.append(tiny())
                given = arguments(
                    "unused", num_train_epochs=5, per_device_train_batch_size=8, learning_rate=0.01,
                    lr_scheduler_type="linear", seed=3,
                )  # fmt: skip
                made = transformers.Trainer(
                    models[-1], given, train_dataset=sentences(), eval_dataset=sentences(),
                    callbacks=[Foretell(run), steps],  # noqa: B023
                )  # fmt: skip
                made.train()

            work = Work(function, Objective("eval_loss"))
            attempt(work, Task(0, number, {}, 5, str(link.folder), dict(link.restore), list(curve)), link)
            assert not link.ended.error, link.ended.error
            restore, curve = link.restore, [tuple(point[:3]) for point in runs[0].curve]
            seen += steps.steps
        return [point[1] for point in curve], seen, models[-1].state_dict()

    whole, paused = train([]), train([2, 1])
    assert paused[1] == whole[1]
    assert paused[0] == whole[0]
    for name, tensor in whole[2].items():
        assert torch.equal(tensor, paused[2][name])


def test_several_data_sets_are_one_check() -> None:
    binding = Foretell(Run(minimize="eval_b_loss"), early_stopping_patience=9)
    made = transformers.Trainer(
        tiny(), arguments("unused", num_train_epochs=2), train_dataset=sentences(),
        eval_dataset={"a": sentences(), "b": sentences(), "c": sentences()}, callbacks=[binding],
    )  # fmt: skip
    made.train()
    assert list(binding.run.curve.steps) == [1, 2]


def test_a_misspelt_metric_of_several_data_sets_is_named_at_the_next_step() -> None:
    made = transformers.Trainer(
        tiny(), arguments("unused", num_train_epochs=9), train_dataset=sentences(),
        eval_dataset={"a": sentences(), "b": sentences()}, callbacks=[Foretell(Run(minimize="eval_loss"))],
    )  # fmt: skip
    with pytest.raises(MetricError, match=r"'eval_loss' is to be watched.*eval_a_loss.*eval_b_loss"):
        made.train()
    assert made.state.epoch == 1
