"""Stopping rules: is this run worth going on? One method a file; rules combine with `|`, `&`, `after` and `every`.

A rule is frozen settings. One that needs more than the curve keeps a state of plain JSON, which is a fold of the points
it was shown. It is saved with a checkpoint, so that a resumed run decides as an uninterrupted one would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from foretell.curve import Curve, Report
from foretell.objective import Objective
from foretell.trial import CONTINUE, Verdict

_VERSION = 1  # of the form in which states are saved


class Scheduled(Protocol):
    """What a rule may ask a learning-rate schedule."""

    def position(self, step: float, horizon: float | None = None) -> float:
        """The share of the area under the rates that is behind at a step, in [0, 1]."""
        ...


@final
@dataclass(frozen=True, slots=True)
class RunContext:
    """What a rule may know besides the curve.

    Args:
        objective: turns losses into the user's units and back.
        horizon: epochs of the full training, or None.
        schedule: the learning rate by epoch, an `LRSchedule`, or None.
    """

    objective: Objective
    horizon: int | None = None
    schedule: Scheduled | None = None

    def position(self, step: float) -> float | None:
        """The share of the training that is behind at a step, in [0, 1]; None without a horizon.

        With a schedule it is the share of the area under the learning rate, so that runs under different schedules are
        compared where these have carried them equally far, else that of the epochs.
        """
        if not self.horizon:
            return None if self.horizon is None else 1.0
        if self.schedule is not None:
            return self.schedule.position(step, self.horizon)
        return min(step / self.horizon, 1.0)


class StoppingRule(Protocol):
    """Judges one run after every check of its objective. Members define `check`; the algebra is written here, once."""

    def init(self) -> Any:
        """The state before the first point: plain JSON. None for a rule that needs only the curve."""
        return None

    def update(self, state: Any, point: Report) -> Any:
        """The state after one more point; O(1)."""
        return state

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """The verdict after the newest point of `curve`, which has one and which `state` has already seen."""
        ...

    def __or__(self, other: StoppingRule) -> AnyOf:
        """Stop when either says so."""
        return AnyOf((*_parts(self, AnyOf), *_parts(other, AnyOf)))

    def __and__(self, other: StoppingRule) -> AllOf:
        """Stop when both say so at the same check."""
        return AllOf((*_parts(self, AllOf), *_parts(other, AllOf)))


@final
@dataclass(frozen=True)
class AnyOf(StoppingRule):
    """Stops when any of its rules does; the first that says so gives the verdict."""

    rules: tuple[StoppingRule, ...]

    def init(self) -> Any:
        """The states of all rules."""
        return [rule.init() for rule in self.rules]

    def update(self, state: Any, point: Report) -> Any:
        """Every rule sees every point."""
        return [rule.update(part, point) for rule, part in zip(self.rules, state, strict=True)]

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """The first verdict that stops."""
        verdicts = (rule.check(curve, part, context) for rule, part in zip(self.rules, state, strict=True))
        return next((verdict for verdict in verdicts if verdict.stop), CONTINUE)


@final
@dataclass(frozen=True)
class AllOf(StoppingRule):
    """Stops when all of its rules do at the same check."""

    rules: tuple[StoppingRule, ...]

    def init(self) -> Any:
        """The states of all rules."""
        return [rule.init() for rule in self.rules]

    def update(self, state: Any, point: Report) -> Any:
        """Every rule sees every point."""
        return [rule.update(part, point) for rule, part in zip(self.rules, state, strict=True)]

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """A verdict that joins all reasons."""
        verdicts = [rule.check(curve, part, context) for rule, part in zip(self.rules, state, strict=True)]
        if not all(verdict.stop for verdict in verdicts):
            return CONTINUE
        last = verdicts[-1]
        return Verdict(
            action="stop",
            rule=" & ".join(verdict.rule for verdict in verdicts),
            reason=" and ".join(verdict.reason for verdict in verdicts),
            step=last.step,
            value=last.value,
            limit=last.limit,
            evidence={verdict.rule: verdict.to_json() for verdict in verdicts},
        )


@final
@dataclass(frozen=True)
class After(StoppingRule):
    """Hides a run's first steps from a rule: points at `step` or before do not count for it."""

    step: int
    rule: StoppingRule

    def init(self) -> Any:
        """The inner rule's state, and whether it has seen a point."""
        return {"inner": self.rule.init(), "begun": False}

    def update(self, state: Any, point: Report) -> Any:
        """Points after the warm-up go on to the rule."""
        if point.step <= self.step:
            return state
        return {"inner": self.rule.update(state["inner"], point), "begun": True}

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """The rule's verdict, once it has seen a point."""
        return self.rule.check(curve, state["inner"], context) if state["begun"] else CONTINUE


@final
@dataclass(frozen=True)
class Every(StoppingRule):
    """Shows a rule only every `checks`-th point: the 1st is hidden until `checks` have come."""

    checks: int
    rule: StoppingRule

    def init(self) -> Any:
        """The inner rule's state and how many points came."""
        return {"inner": self.rule.init(), "seen": 0}

    def update(self, state: Any, point: Report) -> Any:
        """Every `checks`-th point goes on to the rule."""
        seen = state["seen"] + 1
        inner = self.rule.update(state["inner"], point) if seen % self.checks == 0 else state["inner"]
        return {"inner": inner, "seen": seen}

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """The rule's verdict at those points alone."""
        due = state["seen"] > 0 and state["seen"] % self.checks == 0
        return self.rule.check(curve, state["inner"], context) if due else CONTINUE


@runtime_checkable
class Checks(Protocol):
    """What makes an object a rule, for the error that tells a user it is none."""

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """See `StoppingRule.check`."""


def after(step: int, rule: StoppingRule) -> After:
    """Warm-up: `rule` sees nothing of the first `step` steps.

    Args:
        step: >= 0.
        rule: any stopping rule.
    """
    require_rule(rule)
    if step < 0:
        raise ValueError(f"after({step}, ...) begins before the run: use 0 or more.")
    return After(step, rule)


def every(checks: int, rule: StoppingRule) -> Every:
    """Interval: `rule` sees every `checks`-th point only.

    Args:
        checks: >= 1.
        rule: any stopping rule.
    """
    require_rule(rule)
    if checks < 1:
        raise ValueError(f"every({checks}, ...) never comes round: use 1 or more.")
    return Every(checks, rule)


def saved(rule: StoppingRule | None, state: Any) -> dict[str, Any]:
    """A rule's state as plain JSON for a checkpoint, with what tells `resumed` whose it is."""
    return {"version": _VERSION, "rule": _settings(rule), "state": state}


def resumed(rule: StoppingRule | None, kept: Any, curve: Curve) -> Any:
    """The state with which a resumed run goes on.

    Args:
        rule: of the run now.
        kept: what `saved` made, or None. It counts if the rule has the same settings now; else the curve is replayed.
        curve: what the run has behind it.
    """
    if isinstance(kept, dict) and (kept.get("version"), kept.get("rule")) == (_VERSION, _settings(rule)):
        return kept["state"]
    return replayed(rule, curve)


def replayed(rule: StoppingRule | None, curve: Curve) -> Any:
    """The state of a rule after all points of a curve, which knows no metric but the objective."""
    if rule is None:
        return None
    state = rule.init()
    for point in curve:
        state = rule.update(state, Report(*point))
    return state


def require_rule(rule: object) -> None:
    """Check what a user gave as a stopping rule.

    Raises:
        TypeError: it is something else, or a class that was not called.
    """
    if isinstance(rule, type) or not isinstance(rule, Checks):
        raise TypeError(f"{rule!r} is no stopping rule: use e.g. ft.Patience(10).")


def _settings(rule: StoppingRule | None) -> str:
    """The text of a rule; a function in it has another address in another process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(rule))


def _parts(rule: StoppingRule, kind: type[AnyOf | AllOf]) -> tuple[StoppingRule, ...]:
    """`a | b | c` is one rule with three parts, not a tree."""
    require_rule(rule)
    return rule.rules if isinstance(rule, AnyOf | AllOf) and isinstance(rule, kind) else (rule,)
