"""How much may be spent: trials, epochs, wall-clock, or any combination; the first to end ends."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import final

from foretell.errors import BudgetError, did_you_mean

_SECONDS = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_COUNTS = {"trial": "trials", "trials": "trials", "epoch": "epochs", "epochs": "epochs"}
_PART = re.compile(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*(?:,|and\b|$)?", re.IGNORECASE)
_SPELLINGS = "Write '30 min', '200 trials' or '5000 epochs', or several: '30 min, 200 trials'."


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a study; None means no limit of that kind.

    Args:
        trials: configurations that may be started, >= 1.
        epochs: epochs that may be trained over all trials, >= 1.
        seconds: wall-clock of the study over all its sessions, > 0.
    """

    trials: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise BudgetError(f"A budget of {limit} {field.name} buys nothing: it must be a number above 0.")

    @classmethod
    def of(cls, spec: Budget | str | None) -> Budget:
        """Read "30 min", "1h 30m", "200 trials", "5000 epochs" or several of them with commas.

        Raises:
            BudgetError: the text cannot be read; a bare number has no unit, so it is refused with the three spellings.
        """
        if spec is None:
            return cls()
        if isinstance(spec, Budget):
            return spec
        if not isinstance(spec, str):
            raise BudgetError(f"The budget {spec!r} has no unit. {_SPELLINGS}")
        limits: dict[str, float] = {}
        position = 0
        while position < len(spec.rstrip()):
            match = _PART.match(spec, position)
            if match is None:
                rest = spec[position:].strip()
                raise BudgetError(f"The budget {spec!r} cannot be read from {rest!r} on. {_SPELLINGS}")
            kind, amount = _amount(match[1], match[2].lower(), spec)
            if kind in limits and kind != "seconds":
                raise BudgetError(f"The budget {spec!r} limits {kind} twice: keep one.")
            limits[kind] = limits.get(kind, 0) + amount
            position = match.end()
        if not limits:
            raise BudgetError(f"The budget is empty. {_SPELLINGS}")
        return cls(
            trials=int(limits["trials"]) if "trials" in limits else None,
            epochs=int(limits["epochs"]) if "epochs" in limits else None,
            seconds=limits.get("seconds"),
        )

    def __str__(self) -> str:
        parts = []
        if self.seconds is not None:
            parts.append(duration(self.seconds))
        parts += [f"{getattr(self, kind)} {kind}" for kind in ("trials", "epochs") if getattr(self, kind) is not None]
        return ", ".join(parts) or "no limit"

    @property
    def unlimited(self) -> bool:
        """Whether nothing is limited."""
        return self.trials is None and self.epochs is None and self.seconds is None


def _amount(number: str, unit: str, spec: str) -> tuple[str, float]:
    amount = float(number.replace("_", ""))
    if not math.isfinite(amount):
        raise BudgetError(f"The budget {spec!r} is beyond all counting: leave that limit out.")
    if unit in _SECONDS:
        return "seconds", amount * _SECONDS[unit]
    if unit in _COUNTS:
        if amount != int(amount):
            raise BudgetError(f"The budget {spec!r} asks for a part of a {unit}: give a whole number.")
        return _COUNTS[unit], amount
    known = did_you_mean(unit, [*_SECONDS, *_COUNTS])
    raise BudgetError(f"The budget {spec!r} has the unknown unit {unit!r}. {known} {_SPELLINGS}")


def duration(seconds: float) -> str:
    """Seconds for people: '45 s', '1 min 30 s', '2 h 5 min'; `Budget.of` reads it back to the second."""
    if seconds < 60:
        return f"{seconds:g} s" if seconds == int(seconds) else f"{seconds:.3g} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
