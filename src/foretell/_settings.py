"""What a study was made with: its specification in the store, and the members that names stand for."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from foretell import _family
from foretell.errors import StudyError, StudyMismatch
from foretell.objective import Objective
from foretell.record import ValueMode
from foretell.space import Space
from foretell.stores import Store

_FORMAT = 1
_MOST_DIMENSIONS = 20  # for which the distances of a Gaussian process still tell places apart


def specification(
    space: Space, objective: Objective, seed: int, value: ValueMode, sampler: Any, scheduler: Any
) -> dict[str, Any]:
    """Plain JSON data that says what the study searches for, and how."""
    return {
        "format": _FORMAT,
        "space": space.to_json(),
        "space_hash": space.hash,
        **objective.to_json(),
        "seed": seed,
        "value": value,
        "sampler": _described(sampler),
        "scheduler": _described(scheduler),
    }


def create_or_check(store: Store, name: str, objective: Objective, spec: dict[str, Any]) -> None:
    """Make the study, or see that the one of this name searches for the same.

    Raises:
        StudyMismatch: it has another space, metric or direction.
    """
    if name not in store.names():
        try:
            store.create(name, spec)
            return
        except StudyError:  # another process may have made it at this very moment
            if name not in store.names():
                raise
    stored = store.spec(name)
    for what in ("space_hash", *objective.to_json()):
        if stored[what] != spec[what]:
            shown = what.removesuffix("_hash")
            raise StudyMismatch(
                f"The study {name!r} is there already, with another {shown}: {stored[shown]} is stored, "
                f"{spec[shown]} was given. Go on with what is stored, or choose another name."
            )


def member(family: str, choice: Any, space: Space) -> Any:
    """The member that "auto" or a name stands for; an object stands for itself."""
    return _family.make(family, picked(family, space)[0] if _is_auto(choice) else choice)


def picked(family: str, space: Space) -> tuple[str, str]:
    """What "auto" stands for in a space, and why: measured on recorded trainings, see docs/benchmarks.md."""
    dimensions = len(space)
    match family:
        case "samplers" if not dimensions:
            return "random_search", "there is nothing to search"
        case "samplers" if dimensions > _MOST_DIMENSIONS:
            return "tpe", f"{dimensions} parameters are more than a Gaussian process of {_MOST_DIMENSIONS} tells apart"
        case "samplers":
            return "gp", "it found the best epochs with the least training on most recorded trainings"
        case "schedulers":
            return "asha", "most trainings show early that they will not win"
        case _:
            return "budget", "nothing else was asked for"


def explained(family: str, choice: Any, space: Space) -> str:
    """Who picked a member, and why."""
    return f"picked: {picked(family, space)[1]}" if _is_auto(choice) else "as asked for"


def _is_auto(choice: Any) -> bool:
    return isinstance(choice, str) and choice == "auto"


def _described(choice: Any) -> str:
    """A member for the specification: its name, or how it was made."""
    return choice if isinstance(choice, str) else repr(choice)


def digest_of(function: Callable[..., Any] | None) -> str:
    """Of the training function's source, to tell when it has changed."""
    try:
        source = inspect.getsource(function) if function is not None else ""
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        source = code.co_code.hex() if code is not None else ""
    return hashlib.sha256(source.encode()).hexdigest()[:16] if source else ""
