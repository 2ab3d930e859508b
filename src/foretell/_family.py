"""Finds a member of a family by the name of its file: `samplers/qmc.py` is "qmc". No registration."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from foretell.errors import MissingExtra, StudyError, did_you_mean


def names(family: str) -> list[str]:
    """The members of a family, by file name; files that begin with an underscore are helpers, not members."""
    package = importlib.import_module(f"foretell.{family}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load(family: str, name: str) -> Any:
    """The class (or object) a member's file offers: the one name in its `__all__`.

    Args:
        family: folder of the family, e.g. "samplers".
        name: file name of the member, or "package.module:Name" for somebody else's.

    Raises:
        StudyError: there is no such member.
        MissingExtra: the member needs a package that is not installed.
    """
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module_name), attribute)
    if name not in names(family):
        raise StudyError(f"There is no {name!r} among the {family}. {did_you_mean(name, names(family))}")
    try:
        module = importlib.import_module(f"foretell.{family}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("foretell"):
            raise
        raise MissingExtra(
            f"{name!r} of the {family} needs the package {error.name!r}: install it with `pip install {error.name}`."
        ) from error
    return getattr(module, module.__all__[0])


def make(family: str, member: Any) -> Any:
    """A member ready to use: a name becomes its class called without arguments, anything else is taken as it is."""
    return load(family, member)() if isinstance(member, str) else member
