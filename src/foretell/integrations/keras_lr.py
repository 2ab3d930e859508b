"""Keras 3 on any back end: any schedule as a LearningRateSchedule, and the gradient-norm rate around any optimiser."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, cast

import keras
import numpy as np

from foretell.lr import LRSchedule, Rates, curve, from_json
from foretell.lr.gradient_norm import GradientNorm

__all__ = ["GradientNormOptimizer", "ScheduledLR"]

_LONGEST = 10_000_000  # entries of a table: 40 MB


@keras.saving.register_keras_serializable(package="foretell")
class ScheduledLR(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc] # Keras has no types
    """A schedule of foretell, e.g. `keras.optimizers.SGD(ScheduledLR(Cosine(0.1, 90), steps_per_unit=len(batches)))`.

    The rates are computed once, one for each step of the optimiser, so that compiled graphs can read them. Behind the
    last one the rate stays.

    Args:
        schedule: of foretell.lr.
        steps_per_unit: steps of the optimiser in one step of the schedule, > 0: 1, or the batches of an epoch if the
            schedule counts epochs.
        steps: of the optimiser that are planned, >= 1; needed if the schedule has no length of its own.

    Raises:
        TypeError: it is no schedule.
        ValueError: neither the schedule nor `steps` says how long it is, or it is too long for a table.
    """

    def __init__(
        self, schedule: LRSchedule | Mapping[str, Any], *, steps_per_unit: float = 1.0, steps: int | None = None
    ) -> None:
        given = from_json(schedule) if isinstance(schedule, Mapping) else schedule
        if isinstance(given, type) or not isinstance(given, Rates):
            raise TypeError(f"{given!r} is no schedule: use e.g. Cosine(0.1, 90).")
        self.schedule, self.steps_per_unit, self.steps = cast(LRSchedule, given), steps_per_unit, steps
        horizon = self.schedule.horizon
        if not steps_per_unit > 0 or (steps is None and horizon is None):
            raise ValueError(
                f"{type(given).__name__} was made for no particular length: say how many steps are planned, "
                "ScheduledLR(schedule, steps=...), and steps_per_unit above 0."
            )
        length = steps if steps is not None else math.ceil((horizon or 0) * steps_per_unit) + 1
        if not 1 <= length <= _LONGEST:
            raise ValueError(f"A table of {length} rates cannot be made: give steps= between 1 and {_LONGEST}.")
        self._rates = curve(self.schedule, (step / steps_per_unit for step in range(length))).astype(np.float32)

    def __call__(self, step: Any) -> Any:
        """The rate at a step of the optimiser."""
        last = len(self._rates) - 1
        if keras.backend.backend() == "torch":  # runs eagerly, where the table would be copied at each step
            return float(self._rates[min(int(step), last)])
        index = keras.ops.cast(keras.ops.minimum(step, last), "int32")
        return keras.ops.take(keras.ops.convert_to_tensor(self._rates), index)

    def get_config(self) -> dict[str, Any]:
        """Plain data, from which a saved model is loaded."""
        return {"schedule": self.schedule.to_json(), "steps_per_unit": self.steps_per_unit, "steps": self.steps}


@keras.saving.register_keras_serializable(package="foretell")
class GradientNormOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Gives an optimiser the rate of `GradientNorm` at each step, from the gradients of all its variables.

    The norm is that of the gradients as they come, before the inner optimiser clips them. A step whose gradients are
    not finite leaves the rate as it was. One device: under a distribution strategy each would see its own norm.

    Args:
        inner_optimizer: e.g. `keras.optimizers.SGD(momentum=0.9)`; its own rate is overwritten.
        rate: of foretell.lr, in both readings.
        name: of the optimiser.

    Raises:
        TypeError: `rate` is no GradientNorm, or the inner optimiser has a schedule.
        ValueError: the inner optimiser accumulates gradients, so that a step here is none there.
    """

    def __init__(self, inner_optimizer: Any, rate: GradientNorm | Mapping[str, Any], name: str | None = None) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = keras.optimizers.get(inner_optimizer)
        self.rate = from_json(rate) if isinstance(rate, Mapping) else rate
        if not isinstance(self.rate, GradientNorm):
            raise TypeError(f"{self.rate!r} is no gradient-norm rate: use e.g. GradientNorm(0.1, 0.01).")
        if callable(self.inner_optimizer._learning_rate):
            raise TypeError("The inner optimiser has a schedule, but its rate is set at each step: give it a number.")
        if self.inner_optimizer.gradient_accumulation_steps:
            raise ValueError(
                "The inner optimiser accumulates gradients, whose sum is not seen here: use larger batches."
            )

    def build(self, variables: Any) -> None:
        """Make the variables of both."""
        self.squares = self.add_variable(shape=(), dtype="float32", initializer="zeros", name="squares")
        self.inner_optimizer.build(variables)
        super().build(variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Set the rate, then step."""
        if not self.built:
            self.build(trainable_variables)
        given = [gradient for gradient in grads if gradient is not None]
        scale = self.inner_optimizer.loss_scale_factor or 1.0
        if keras.backend.backend() == "torch":  # runs eagerly, where each small operation costs as much as a large one
            norm = float(sys.modules["torch"].nn.utils.get_total_norm(given)) / scale
            state = self.rate.update({"squares": self.squares.value.item()}, norm * norm)
            squares, lr = state["squares"], self.rate.rate(state)
        else:
            squares, lr = self._traced(given, scale)
        self.squares.assign(squares)
        self.inner_optimizer.learning_rate = lr
        self.inner_optimizer.apply(grads, trainable_variables)

    def _traced(self, gradients: list[Any], scale: float) -> tuple[Any, Any]:
        ops, rate, before = keras.ops, self.rate, keras.ops.convert_to_tensor(self.squares)
        singles = [ops.cast(ops.convert_to_tensor(gradient), "float32") for gradient in gradients]
        signal = sum(ops.sum(ops.square(gradient)) for gradient in singles) / scale**2
        now = signal + before if rate.reading == "accumulated" else signal
        now = ops.where(ops.isfinite(signal), now, before)
        return now, rate.beta / (1 + rate.gamma / rate.beta**2 * now) ** rate.power

    @property
    def variables(self) -> list[Any]:
        """Those of both."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The rate of the last step."""
        return self.inner_optimizer.learning_rate

    @property
    def iterations(self) -> Any:
        """Steps made."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        """As the inner optimiser does."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        """As the inner optimiser does."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Plain data, from which a saved model is loaded."""
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner, "rate": self.rate.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GradientNormOptimizer:
        """The inverse of `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["inner_optimizer"], custom_objects=custom_objects)
        return cls(**{**config, "inner_optimizer": inner})
