"""Learning rates: pure schedules of the step, adaptive rates that follow a signal, and the range test. One a file.

A schedule is frozen settings and a function of the step. The step's unit, epochs or batches, is the caller's, and it
may be fractional. Schedules combine with `then` and `warmup`. An adaptive rate keeps a state of plain JSON, as a
stopping rule does. Nothing here knows a framework: rates are floats.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, final, runtime_checkable

from foretell import _family
from foretell.errors import did_you_mean
from foretell.lr._formulas import SHAPES, Phase, area_of, rate_of, require, require_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAME = "name"
"""Key of a description under which the method stands: the name of its file."""


class LRSchedule(Protocol):
    """The learning rate at a step. Members define `__call__`, `area` and `replanned`; the algebra is written here once.

    All of them take any step from 0 on, beyond the end of the schedule too, and give a rate of 0 or more.
    """

    def __call__(self, step: float) -> float:
        """The rate at a step >= 0."""
        ...

    def area(self, step: float) -> float:
        """The exact integral of the rate from 0 to a step >= 0: how far the rates have carried so far."""
        ...

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The schedule that does in `horizon` steps what this one does in `planned`, both > 0; see `stretch`."""
        ...

    @property
    def horizon(self) -> float | None:
        """Length of the schedule in steps, or None if it was made for no particular length."""
        return None

    def position(self, step: float, horizon: float | None = None) -> float:
        """The share of the schedule that is behind: the area up to `step` over the area of the whole, in [0, 1].

        Two runs under schedules of different lengths are best compared at equal positions, not at equal steps.

        Args:
            step: >= 0.
            horizon: length of the run, > 0; the schedule's own if left out.

        Raises:
            ValueError: neither the schedule nor the caller knows a length.
        """
        length = self._length(horizon, "position(step, horizon)")
        whole = self.area(length)
        share = self.area(min(step, length)) / whole if whole > 0 else step / length
        return min(max(share, 0.0), 1.0)

    def stretch(self, horizon: float, *, planned: float | None = None) -> LRSchedule:
        """The same schedule for a run of another length: one that is cut short, or goes on for longer.

        What lies behind the run is not undone: where the new schedule differs from the old one at the current step, the
        rate jumps. A warm-up keeps its length, for it serves the optimiser's averages and not the length of the run.

        Args:
            horizon: the new length, > 0.
            planned: the length that the schedule was made for, > 0; its own if left out.

        Raises:
            ValueError: neither the schedule nor the caller knows the old length, or a warm-up does not fit the new one.
        """
        require(horizon > 0 and math.isfinite(horizon), f"stretch({horizon}) must be a number of steps above 0.")
        return self.replanned(self._length(planned, f"stretch({horizon:g}, planned=...)"), horizon)

    def then(self, at: float, other: LRSchedule) -> Then:
        """This schedule before the step `at`, and from it on `other`, which counts from there.

        Args:
            at: > 0.
            other: any schedule; its step 0 is `at`.
        """
        return Then(self, at, other)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain data for `from_json`: {"name": "cosine", "lr": 0.1, "steps": 90, ...}."""
        return _described(self)

    def _length(self, given: float | None, call: str) -> float:
        length = self.horizon if given is None else given
        if length is None:
            raise ValueError(
                f"{type(self).__name__} was made for no particular length: say how many steps the run has, {call}, "
                "or go on with it as it is, for it is defined at every step."
            )
        require(length > 0 and math.isfinite(length), f"A run of {length} steps has no length: give a number above 0.")
        return length


class AdaptiveRate(Protocol):
    """A learning rate that follows a signal: a loss, or the size of a gradient, as the member says.

    The state is plain JSON and a fold of the signals, so that a resumed run goes on as an uninterrupted one would.
    """

    def init(self) -> dict[str, Any]:
        """The state before the first signal."""
        ...

    def update(self, state: dict[str, Any], signal: float) -> dict[str, Any]:
        """The state after one more signal; the old state is left as it was. O(1), or O(window) where there is one."""
        ...

    def rate(self, state: dict[str, Any]) -> float:
        """The learning rate to use now."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The settings as plain data for `from_json`: {"name": "plateau", "lr": 0.1, ...}."""
        return _described(self)


@runtime_checkable
class Rates(Protocol):
    """What makes an object a schedule, for the error that tells a user it is none."""

    def __call__(self, step: float) -> float:
        """See `LRSchedule`."""

    def area(self, step: float) -> float:
        """See `LRSchedule.area`."""


@final
@dataclass(frozen=True)
class Then(LRSchedule):
    """One schedule after another; see `LRSchedule.then`."""

    first: LRSchedule
    at: float
    other: LRSchedule

    def __post_init__(self) -> None:
        require(self.at > 0 and math.isfinite(self.at), f"then({self.at}, ...) must switch at a step above 0.")
        require_schedule("then(...)", self.first, self.other)

    @property
    def horizon(self) -> float | None:
        """That of the second schedule, counted from the start of the first."""
        return None if self.other.horizon is None else self.at + self.other.horizon

    def __call__(self, step: float) -> float:
        """The first schedule's rate before the switch, the other's from it on."""
        return self.first(step) if step < self.at else self.other(step - self.at)

    def area(self, step: float) -> float:
        """The two areas, one after the other."""
        return self.first.area(min(step, self.at)) + (self.other.area(step - self.at) if step > self.at else 0.0)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Both parts take the same share of the run as before."""
        require(planned > self.at, f"A run of {planned:g} steps ends before the switch at {self.at:g}: plan for more.")
        at = self.at * horizon / planned
        return Then(self.first.replanned(self.at, at), at, self.other.replanned(planned - self.at, horizon - at))


@final
@dataclass(frozen=True)
class Warmup(LRSchedule):
    """A schedule behind a warm-up; see `warmup`."""

    steps: float
    schedule: LRSchedule
    _: KW_ONLY
    start: float = 0.0
    kind: str = "linear"
    shift: bool = True

    def __post_init__(self) -> None:
        require(self.steps > 0 and math.isfinite(self.steps), f"warmup({self.steps}, ...) must be a number above 0.")
        require(self.start >= 0 and math.isfinite(self.start), f"warmup(start={self.start}) must be a rate, 0 or more.")
        require_shape("warmup(kind=...)", self.kind, SHAPES)
        require_schedule("warmup(...)", self.schedule)

    @property
    def horizon(self) -> float | None:
        """That of the schedule, with the warm-up before it if it shifts."""
        inner = self.schedule.horizon
        return inner if inner is None or not self.shift else self.steps + inner

    def __call__(self, step: float) -> float:
        """From `start` to the schedule's first rate, then the schedule."""
        if step < self.steps:
            return rate_of(self._rise(), step)
        return self.schedule(step - self.steps if self.shift else step)

    def area(self, step: float) -> float:
        """The area of the rise, and behind it the schedule's."""
        if step <= self.steps:
            return area_of(self._rise(), step)
        behind = self.schedule.area(step - self.steps) if self.shift else self._behind(step)
        return area_of(self._rise(), self.steps) + behind

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The warm-up keeps its length, and the schedule takes the rest."""
        require(
            min(planned, horizon) > self.steps,
            f"A warm-up of {self.steps:g} steps does not fit a run of {min(planned, horizon):g}: shorten it first, "
            "as in warmup(fewer, schedule).",
        )
        hidden = self.steps if self.shift else 0.0
        return dataclasses.replace(self, schedule=self.schedule.replanned(planned - hidden, horizon - hidden))

    def _rise(self) -> tuple[Phase, ...]:
        return (Phase(self.steps, self.start, self.schedule(0.0), self.kind),)

    def _behind(self, step: float) -> float:
        return self.schedule.area(step) - self.schedule.area(self.steps)


def warmup(
    steps: float, schedule: LRSchedule, *, start: float = 0.0, kind: str = "linear", shift: bool = True
) -> Warmup:
    """A schedule behind a warm-up, in which the rate goes from `start` to the schedule's first rate.

    Args:
        steps: length of the warm-up, > 0.
        schedule: any schedule.
        start: the rate at step 0, >= 0.
        kind: the shape of the rise: "linear", "cosine" or "sqrt".
        shift: whether the schedule begins behind the warm-up, as in PyTorch, Keras, optax and transformers. Otherwise
            it is merely covered by it, and the rate may jump at the end, as in timm without `warmup_prefix`.

    Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, section 2.2.
    """
    return Warmup(steps, schedule, start=start, kind=kind, shift=shift)


def curve(schedule: LRSchedule, steps: Iterable[float]) -> NDArray[np.float64]:
    """The rates at many steps: (n,) float64.

    Args:
        schedule: any schedule.
        steps: (n,) numbers >= 0.
    """
    import numpy as np  # noqa: PLC0415 - a rate costs no NumPy; an array of them does

    return np.array([schedule(float(step)) for step in steps], dtype=np.float64)


def from_json(data: Mapping[str, Any]) -> Any:
    """The schedule or adaptive rate that `to_json` described; or one that a configuration names.

    Args:
        data: {"name": "cosine", "lr": 0.1, "steps": 90}: a file of `foretell.lr`, or "then" or "warmup", and its
            settings.

    Raises:
        ValueError: there is no such method, or it has no such setting, or refuses its value.
    """
    name = data.get(_NAME) if isinstance(data, Mapping) else None
    make = _maker(name)
    settings = {key: _read(value) for key, value in data.items() if key != _NAME}
    accepted = inspect.signature(make).parameters
    for key in settings:
        require(key in accepted, f"{name} has no setting {key!r}. {did_you_mean(key, accepted)}")
    missing = [key for key, spec in accepted.items() if spec.default is spec.empty and key not in settings]
    require(not missing, f"{name} needs {' and '.join(missing)} as well: add it to {dict(data)}.")
    return make(**settings)


def from_params(params: Mapping[str, Any], family: str = "schedule", *, horizon: float | None = None) -> Any:
    """The schedule or adaptive rate that a configuration names, among parameters of other things.

    Of the configuration it takes the settings that the family has, e.g. "lr" and "end" for "cosine".

    Args:
        params: of a run, e.g. {"width": 64, "lr": 0.1, "schedule": "cosine", "end": 1e-4}.
        family: name of the parameter that names a file of `foretell.lr`.
        horizon: length of the run, > 0: the `steps` of a family that needs them, if the configuration has none.

    Raises:
        ValueError: there is no such parameter or family, or a setting is missing or refused.
    """
    require(family in params, f"The configuration has no {family!r}. {did_you_mean(family, params)}")
    accepted = inspect.signature(_maker(params[family])).parameters
    settings = {name: params[name] for name in accepted if name in params}
    if horizon is not None and "steps" in accepted and accepted["steps"].default is inspect.Parameter.empty:
        settings.setdefault("steps", horizon)
    return from_json({_NAME: params[family], **settings})


def require_schedule(call: str, *given: object) -> None:
    """Check what a user gave as a schedule.

    Raises:
        TypeError: it is something else, or a class that was not called.
    """
    for one in given:
        if isinstance(one, type) or not isinstance(one, Rates):
            raise TypeError(f"{call} was given {one!r}, which is no schedule: use e.g. Cosine(0.1, 90).")


def storable(schedule: LRSchedule | None) -> dict[str, Any] | None:
    """The description of a schedule, or None if there is none or `from_json` could not build it again."""
    try:
        return None if schedule is None else schedule.to_json()
    except (AttributeError, ValueError):  # a schedule of the user's own
        return None


def _maker(name: Any) -> Any:
    known = {*_COMPOSED, *_family.names("lr")} - {"range_test"}
    if name not in known:
        raise ValueError(f"There is no learning rate {name!r}. {did_you_mean(str(name), known)}")
    return _COMPOSED.get(name) or _family.load("lr", name)


def _described(member: object) -> dict[str, Any]:
    kind = type(member)
    package, _, module = kind.__module__.rpartition(".")
    if kind in _COMPOSED.values():
        name = kind.__name__.lower()
    elif package == __name__ and dataclasses.is_dataclass(member):
        name = module
    else:
        raise ValueError(
            f"{kind.__name__} is no member of foretell.lr, so from_json could not build it again: "
            "store its settings yourself."
        )
    settings = dataclasses.fields(cast(Any, member))
    return {_NAME: name} | {setting.name: _plain(getattr(member, setting.name)) for setting in settings}


def _plain(value: Any) -> Any:
    if isinstance(value, Rates):
        return cast(LRSchedule, value).to_json()
    return list(value) if isinstance(value, tuple) else value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_json(value)
    return tuple(value) if isinstance(value, list) else value


_COMPOSED: dict[str, type[Then | Warmup]] = {"then": Then, "warmup": Warmup}
