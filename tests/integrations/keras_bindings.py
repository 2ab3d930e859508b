"""The suite for Keras on the back end that KERAS_BACKEND names; `test_keras.py` runs it in a process of its own."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell import Objective, Patience, Run, checkpoint
from foretell.attempt import attempt
from foretell.errors import CheckpointError, MetricError, ReportError
from foretell.executors import Task, Work
from foretell.lr import warmup
from foretell.lr.cosine import Cosine
from foretell.lr.exponential import Exponential
from foretell.lr.gradient_norm import GradientNorm
from tests.conftest import needs
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario

needs(os.environ["KERAS_BACKEND"])
keras = needs("keras")

from foretell.integrations.keras import Foretell  # noqa: E402
from foretell.integrations.keras_lr import GradientNormOptimizer, ScheduledLR  # noqa: E402

# Whether steps are compiled, where there is a difference.
GRAPH = [True, False] if keras.backend.backend() == "tensorflow" else [False]


def counting() -> Any:
    """A model whose only weight grows by 1 with each step of Adam, for its gradient is always -1."""
    output = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="count")
    return keras.Sequential([keras.Input((1,)), output])


class Training:
    def __init__(self, job: Job) -> None:
        self.job, self.trained, self.model = job, 0, counting()
        self.model.compile(
            keras.optimizers.Adam(1.0, epsilon=1e-9), loss=lambda y, prediction: -prediction, run_eagerly=True
        )
        self.model.evaluate = self.measured
        metric = Keras.metric + ("x" if job.misspelt else "")
        mode = {} if job.run is not None else {"monitor": metric, "mode": "max" if job.maximize else "min"}
        if job.run is not None:
            assert not job.misspelt
        self.binding = Foretell(job.run, patience=job.patience, stopping=job.stopping, **mode)

    def measured(self, **_: Any) -> dict[str, float]:
        return {"loss": self.job.value(self.held)}

    def fit(self) -> None:
        training, one = self, np.ones((1, 1), np.float32)

        class Counts(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
                if training.held + 1 == training.job.fails_in:
                    raise BoomError

            def on_train_batch_end(self, batch: int, logs: object = None) -> None:
                training.trained += 1

        callbacks: list[Any] = [Counts(), self.binding]
        if self.job.rival is not None:
            rival = keras.callbacks.EarlyStopping(Keras.metric, patience=self.job.rival, mode="min")
            callbacks.append(rival)
        with self.binding:
            self.model.fit(
                one, one, epochs=len(self.job.values), validation_data=(one, one), validation_freq=self.job.every,
                callbacks=callbacks, verbose=0,
            )  # fmt: skip

    def count(self) -> None:
        self.trained += 1

    @property
    def run(self) -> Any:
        return self.binding.run

    @property
    def held(self) -> int:
        return round(float(keras.ops.stop_gradient(self.model.variables[0])[0][0]))

    @property
    def moments(self) -> int:
        return int(self.model.optimizer.iterations)


class Keras:
    metric = "val_loss"
    promises = frozenset(suite.PROMISES)

    def prepare(self, job: Job) -> Training:
        return Training(job)


@pytest.mark.parametrize("check", suite.cases(Keras()))
def test_the_binding_keeps_its_promises(check: Scenario) -> None:
    check(Keras())


# --- what only Keras has ---------------------------------------------------------------------------------------------

ONE = np.ones((1, 1), np.float32)


def fit(job: Job, binding: Any, *others: Any, **settings: Any) -> Training:
    training = Training(job)
    training.binding = binding
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: training.count())
    data = {"validation_data": (ONE, ONE), "verbose": 0, "epochs": len(job.values), **settings}
    training.model.fit(ONE, ONE, callbacks=[count, binding, *others], **data)
    return training


@pytest.mark.parametrize("graph", GRAPH)
def test_alone_it_works_with_a_model_that_fit_builds(graph: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=not graph)
    measured: list[float] = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: measured.append(float(logs["val_mae"])))
    stopper = Foretell(monitor="val_mae", mode="max", patience=3)  # the error as a score: the first epoch is the best
    model.fit(x, x[:, :1], validation_data=(x, x[:, :1]), epochs=9, callbacks=[record, stopper], verbose=0)
    assert len(measured) == 4
    assert model.evaluate(x, x[:, :1], verbose=0)[1] == pytest.approx(measured[0], rel=1e-5)
    assert int(model.optimizer.iterations) == 1


@pytest.mark.parametrize(
    ("metrics", "monitor", "is_score"),
    [
        (["accuracy"], "val_accuracy", True),
        (["acc"], "val_acc", True),
        ([keras.metrics.AUC(name="area")], "val_area", True),
        ([keras.metrics.MeanSquaredError()], "mean_squared_error", False),
        (["mae"], "val_mae", False),
        ({"count": ["accuracy"]}, "val_accuracy", True),
        (None, "val_loss", False),
        (None, "loss", False),
        (None, "val_count_loss", False),
    ],
)
def test_auto_asks_the_metric(metrics: Any, monitor: str, is_score: bool) -> None:
    model = counting()
    model.compile(loss="mse", metrics=metrics)
    stopper = Foretell(monitor=monitor)
    stopper.set_model(model)
    stopper.on_train_begin()
    assert stopper.run is not None
    assert repr(stopper.run._objective).count("maximize") == is_score


def test_auto_says_when_it_cannot_know() -> None:
    model = counting()
    model.compile(loss="mse", metrics=[lambda y, prediction: prediction])
    stopper = Foretell(monitor="val_profit")
    stopper.set_model(model)
    with pytest.raises(MetricError, match=r"'val_profit' is to fall or to grow .* mode='min' or mode='max'"):
        stopper.on_train_begin()


def test_each_fit_begins_anew() -> None:
    stopper = Foretell(patience=1)
    first, second = fit(Job((5, 4, 6, 1)), stopper), fit(Job((9, 8, 9)), stopper)
    assert (first.held, second.held) == (2, 2)
    assert stopper.run is not None
    assert len(stopper.run.curve) == 3


def test_what_comes_behind_it_sees_the_weights_of_the_epoch() -> None:
    seen: list[int] = []

    class Behind(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seen.append(round(float(keras.ops.stop_gradient(self.model.variables[0])[0][0])))

    training = fit(Job((5, 4, 6, 6, 1)), Foretell(patience=2), Behind())
    assert (seen, training.held) == ([1, 2, 3, 4], 2)


def test_without_a_context_an_exception_leaves_the_model_alone_for_ever() -> None:
    training = Training(Job((5, 3, 4, 4, 4), patience=10, fails_in=4))

    class Fails(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if epoch == 3:
                raise BoomError

    with pytest.raises(BoomError):
        training.model.fit(
            ONE, ONE, validation_data=(ONE, ONE), epochs=5, callbacks=[training.binding, Fails()], verbose=0
        )
    del training.binding
    gc.collect()
    assert training.held == 3


def test_keras_own_first_epoch_is_the_first_step() -> None:
    stopper = Foretell(patience=5)
    training = fit(Job((5, 4, 3)), stopper, initial_epoch=7, epochs=10)
    assert stopper.run is not None
    assert (list(stopper.run.curve.steps), training.held) == ([8, 9, 10], 3)
    with pytest.raises(ReportError, match="leave initial_epoch= out"):
        fit(Job((5, 4, 3)), Foretell(Run(minimize="val_loss")), initial_epoch=7, epochs=10)


def test_start_from_epoch_hides_the_first_checks_from_the_rule() -> None:
    assert fit(Job((1, 5, 4, 6, 6, 6)), Foretell(patience=2, start_from_epoch=2)).trained == 5


def test_a_baseline_is_to_be_beaten() -> None:
    assert fit(Job((5, 4, 3, 2)), Foretell(patience=2, baseline=1.0)).trained == 2


def test_best_weights_may_be_left_alone() -> None:
    assert fit(Job((5, 4, 6, 6, 6)), Foretell(patience=2, restore_best_weights=False)).held == 4


def test_the_verdict_is_printed_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Job((5, 6, 6)), Foretell(patience=1, verbose=1))
    assert "foretell: Stop: val_loss has not beaten 5" in capsys.readouterr().out


def test_arguments_that_make_no_sense_say_so() -> None:
    with pytest.raises(TypeError, match="monitor='val_loss'"):
        Foretell("val_loss")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="watches 'val_loss', and not 'loss'"):
        Foretell(Run(minimize="val_loss"), monitor="loss")
    with pytest.raises(ValueError, match="mode='up'"):
        Foretell(mode="up")
    with pytest.raises(TypeError, match="no stopping rule"):
        Foretell(stopping=Patience)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="needs a metric to watch"):
        fit(Job((5, 4)), Foretell(Run(), patience=3))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other back ends build the model before training")
def test_a_run_wants_a_model_that_has_its_weights() -> None:
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(CheckpointError, match=r"give it an Input, or call model.build\(shape\)"):
        model.fit(ONE, ONE, callbacks=[Foretell(Run(minimize="loss"))], verbose=0)


# --- resuming a real training ----------------------------------------------------------------------------------------


def real(run: Run, histories: list[list[float]]) -> Any:
    """Dropout, momentum, a schedule, shuffled data where the back end's generator can be put back."""
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    y = np.abs(x).sum(1, keepdims=True)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    rate = ScheduledLR(Cosine(0.05, 6), steps_per_unit=4)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
    shuffle = keras.backend.backend() == "torch"
    history = model.fit(
        x, y, batch_size=10, epochs=6, validation_data=(x, y), callbacks=[Foretell(run)], verbose=0, shuffle=shuffle
    )
    histories.append(history.history["val_loss"])
    return model


def test_a_real_training_resumes_to_the_bit(tmp_path: Path) -> None:
    def train(pauses: list[int]) -> tuple[list[float], Any]:
        folder = tmp_path / str(pauses)
        folder.mkdir()
        restore: dict[str, tuple[str, str, int]] = {}
        curve: list[Any] = []
        models: list[Any] = []
        for number, after in enumerate([*pauses, 99], start=1):
            link = suite.Deciding(folder, "pause", after)
            link.restore |= restore
            runs: list[Run] = []

            def function(run: Run) -> None:
                runs.append(run)  # noqa: B023 - called in this turn
                models.append(real(run, []))

            work = Work(function, Objective("val_loss"))
            attempt(work, Task(0, number, {}, 3, str(folder), dict(link.restore), list(curve)), link)
            assert not link.ended.error, link.ended.error
            restore, curve = link.restore, [tuple(point[:3]) for point in runs[0].curve]
        return [point[1] for point in curve], models[-1]

    whole, paused = train([]), train([2, 1])
    assert paused[0] == whole[0]
    states = [[*model.variables, *model.optimizer.variables] for model in (whole[1], paused[1])]
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


# --- the adapter -----------------------------------------------------------------------------------------------------


def array(variable: Any) -> Any:
    return np.asarray(keras.ops.stop_gradient(keras.ops.convert_to_tensor(variable)))


def built(units: int = 2, **settings: Any) -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, **settings), keras.layers.Dropout(0.5)])
    model.compile(keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "mixed_bfloat16"])
def test_models_and_optimisers_are_saved_and_restored(tmp_path: Path, dtype: str) -> None:
    model = built(dtype=dtype)
    for variable in (*model.variables, *model.optimizer.variables):
        variable.assign(keras.ops.cast(keras.ops.ones(variable.shape) * 3, variable.dtype))
    snapshot = checkpoint.capture({"model": model, "optimizer": model.optimizer})
    checkpoint.write(tmp_path / "c", snapshot, {"step": 4})
    other = built(dtype=dtype)
    checkpoint.Checkpoint.open(tmp_path / "c").restore(model=other, optimizer=other.optimizer)
    for ours, theirs in zip(
        (*model.variables, *model.optimizer.variables), (*other.variables, *other.optimizer.variables), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(array(keras.ops.cast(ours, "float32")), array(keras.ops.cast(theirs, "float32")))


def test_what_does_not_fit_is_named() -> None:
    snapshot = checkpoint.capture({"model": built(2)}, rng=False)
    with pytest.raises(CheckpointError, match=r"kernel has shape \(3, 5\) here and \(3, 2\)"):
        checkpoint.restore({"model": built(5)}, snapshot, rng=False)
    with pytest.raises(CheckpointError, match="1 variables here and 3 in"):
        checkpoint.restore({"model": counting()}, snapshot, rng=False)
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    assert "model.build(shape)" in checkpoint.unsupported({"model": unbuilt})["model"]


def test_a_child_inherits_weights_but_not_the_optimiser() -> None:
    parent, child = built(), built()
    snapshot = checkpoint.capture({"model": parent, "optimizer": parent.optimizer}, rng=False)
    parent.optimizer.iterations.assign(9)
    notes = checkpoint.restore({"model": child, "optimizer": child.optimizer}, snapshot, "inherit")
    assert "moments start anew" in notes[0]
    np.testing.assert_array_equal(array(child.variables[0]), array(parent.variables[0]))
    assert int(child.optimizer.iterations) == 0


# --- learning rates --------------------------------------------------------------------------------------------------


class Rates(keras.callbacks.Callback):  # type: ignore[misc]
    """The rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.found.append(float(array(self.model.optimizer.learning_rate)))


@pytest.mark.parametrize("reading", ["batch", "accumulated"])
@pytest.mark.parametrize("graph", GRAPH)
def test_the_gradient_norm_rate_is_that_of_the_formula(reading: str, graph: bool) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=(12, 1)).astype(np.float32)
    weights, rate, expected = np.zeros((3, 1)), GradientNorm(0.3, 0.02, reading=reading, power=0.7), []
    state = rate.init()
    for step in range(9):
        rows = slice(4 * (step % 3), 4 * (step % 3) + 4)
        gradient = 2 / 4 * x[rows].T @ (x[rows] @ weights - y[rows])
        state = rate.update(state, float((gradient**2).sum()))
        expected.append(rate.rate(state))
        weights -= expected[-1] * gradient
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(GradientNormOptimizer(keras.optimizers.SGD(), rate), "mse", run_eagerly=not graph)
    rates = Rates()
    model.fit(x, y, batch_size=4, epochs=3, shuffle=False, callbacks=[rates], verbose=0)
    assert rates.found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(array(model.variables[0]), weights, rtol=1e-4)
    assert int(model.optimizer.iterations) == 9


def test_a_gradient_that_is_not_finite_leaves_the_rate() -> None:
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer = GradientNormOptimizer(keras.optimizers.SGD(), GradientNorm(0.3, 0.02, reading="accumulated"))
    optimizer.apply([keras.ops.ones(2)], [variable])
    before = float(array(optimizer.learning_rate))
    optimizer.apply([keras.ops.convert_to_tensor(np.array([np.inf, 1], np.float32))], [variable])
    assert float(array(optimizer.learning_rate)) == before == pytest.approx(0.3 / (1 + 0.02 * 2 / 0.09))


def test_a_scaled_loss_is_unscaled_for_the_norm() -> None:
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer = GradientNormOptimizer(keras.optimizers.SGD(loss_scale_factor=8.0), GradientNorm(0.3, 0.02))
    assert float(array(optimizer.scale_loss(keras.ops.convert_to_tensor(1.0)))) == 8.0
    optimizer.apply([8 * keras.ops.ones(2)], [variable])
    assert float(array(optimizer.learning_rate)) == pytest.approx(0.3 / (1 + 0.02 * 2 / 0.09))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # of Keras
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(ScheduledLR(warmup(2, Cosine(0.1, 4)), steps_per_unit=2), momentum=0.5),
        lambda: GradientNormOptimizer(
            keras.optimizers.SGD(momentum=0.5), GradientNorm(0.1, 0.3, reading="accumulated")
        ),
    ],
    ids=["schedule", "gradient norm"],
)
def test_a_saved_model_trains_on_as_it_would_have(tmp_path: Path, make: Any) -> None:
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(make(), "mse")
    model.fit(x, x[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, other):
        each.fit(x, x[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0)
    for one, another in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(another))


@pytest.mark.parametrize("graph", GRAPH)
def test_a_schedule_gives_its_rates_and_holds_the_last(graph: bool) -> None:
    schedule = Cosine(0.1, 3, end=0.01)
    model = counting()
    model.compile(keras.optimizers.SGD(ScheduledLR(schedule, steps_per_unit=2)), "mse", run_eagerly=not graph)
    rates = Rates()
    model.fit(np.ones((1, 1)), np.ones((1, 1)), epochs=9, callbacks=[rates], verbose=0)
    # Asked behind a step, the optimiser tells the rate of the next one.
    assert rates.found == pytest.approx([schedule(step / 2) for step in range(1, 10)], rel=1e-6)


def test_rates_that_make_no_sense_say_so() -> None:
    with pytest.raises(TypeError, match="is no schedule"):
        ScheduledLR(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Exponential .* ScheduledLR\(schedule, steps=...\)"):
        ScheduledLR(Exponential(0.1, 0.9))
    with pytest.raises(ValueError, match="cannot be made"):
        ScheduledLR(Cosine(0.1, 90), steps_per_unit=1e9)
    with pytest.raises(TypeError, match="no gradient-norm rate"):
        GradientNormOptimizer("sgd", 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has a schedule"):
        GradientNormOptimizer(keras.optimizers.SGD(ScheduledLR(Cosine(0.1, 9))), GradientNorm(0.1))
    with pytest.raises(ValueError, match="accumulates gradients"):
        GradientNormOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=2), GradientNorm(0.1))
