"""study.toml: what it may say, where each value came from, and which of several sayings counts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from foretell.errors import ForetellError, SpaceError, StudyError, did_you_mean

if TYPE_CHECKING:
    from foretell.space import Space
    from foretell.stopping import StoppingRule

# Key -> type and default; None as default means that it may be left out.
KEYS: dict[str, tuple[type, Any]] = {
    "train": (str, None),
    "metric": (str, None),
    "direction": (str, None),
    "budget": (str, None),
    "workers": (int, 1),
    "store": (str, "studies"),
    "name": (str, None),
    "seed": (int, 0),
    "sampler": (str, "auto"),
    "scheduler": (str, "auto"),
    "terminator": (str, "auto"),
    "value": (str, "auto"),
    "retries": (int, 1),
    "gpus_per_run": (int, 0),
    "keep_checkpoints": (int, 1),
    "progress": (str, "auto"),
}
TABLES = ("space", "stopping", "default")
_REQUIRED = ("train", "metric", "direction")
_STOPPING: dict[str, tuple[type, ...]] = {
    "patience": (int,),
    "min_delta": (int, float),
    "relative": (bool,),
    "threshold": (int, float),
    "divergence": (int, float),
    "epoch_limit": (int,),
    "time_limit": (int, float),
    "after": (int,),
}


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from: an option, a variable, the file, or "default"."""

    value: Any
    origin: str


@final
@dataclass(frozen=True, slots=True)
class Config:
    """All that a study.toml and those who overrule it say.

    Args:
        path: of the file.
        settings: by key.
        tables: "space", "stopping", "default", as far as they are there.
    """

    path: Path
    settings: dict[str, Setting]
    tables: dict[str, dict[str, Any]]

    def __getitem__(self, key: str) -> Any:
        return self.settings[key].value

    def space(self) -> Space:
        """The space of the table [space]."""
        from foretell.space import Space  # noqa: PLC0415 -- brings NumPy

        try:
            return Space.from_toml(self.tables["space"])
        except SpaceError as error:
            raise SpaceError(f"{self.path}, [space]: {error}") from error

    def stopping(self) -> StoppingRule | None:
        """The rule of the table [stopping], several joined by "or"; None if there is no such table."""
        table = self.tables.get("stopping", {})
        try:
            return _rule(dict(table))
        except (ValueError, TypeError) as error:
            raise StudyError(f"{self.path}, [stopping]: {error}") from error


def read(path: Path, options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file, overruled by FORETELL_* variables, and those by options of the command line.

    Args:
        path: of the TOML file.
        options: by key; None means not given.
        environment: the process's.

    Raises:
        StudyError: the file cannot be read, or a key is unknown, missing or of the wrong type.
    """
    data = _parsed(path)
    for key in data:
        if key not in KEYS and key not in TABLES:
            raise StudyError(f"{path}: unknown key {key!r}. {did_you_mean(key, [*KEYS, *TABLES])}")
    tables = {name: _table(path, name, data[name]) for name in TABLES if name in data}
    for key in tables.get("stopping", {}):
        if key not in _STOPPING:
            raise StudyError(f"{path}, [stopping]: unknown key {key!r}. {did_you_mean(key, _STOPPING)}")
    for key, value in tables.get("stopping", {}).items():
        _check(f"{path}, [stopping]", key, value, _STOPPING[key])
    settings = {}
    for key, (kind, default) in KEYS.items():
        setting = _chosen(path, key, data, options, environment)
        setting = setting or Setting(path.stem if key == "name" else default, "default")
        if setting.value is not None:
            _check(setting.origin, key, setting.value, (kind,))
        settings[key] = setting
    _complete(path, settings, tables)
    return Config(path, settings, tables)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror}): give the path of a study.toml.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no valid TOML: {error}.") from error


def _chosen(
    path: Path, key: str, data: Mapping[str, Any], options: Mapping[str, Any], environment: Mapping[str, str]
) -> Setting | None:
    variable = f"FORETELL_{key.upper()}"
    if options.get(key) is not None:
        return Setting(options[key], f"--{key.replace('_', '-')}")
    if environment.get(variable):
        return Setting(
            _number(variable, environment[variable]) if KEYS[key][0] is int else environment[variable], variable
        )
    if key in data:
        value = data[key]
        if key == "store" and isinstance(value, str):
            value = str(path.parent / Path(value).expanduser())
        return Setting(value, str(path))
    return None


def _number(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise StudyError(f"{variable} is {text!r}: give a whole number, or unset the variable.") from None


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StudyError(f"{path}: {name!r} is a table: write it as [{name}] with its keys below.")
    return value


def _check(where: str, key: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}[kinds[-1]]
        raise StudyError(f"{where}: {key} = {value!r} is of the wrong type: give {wanted}.")


def _complete(path: Path, settings: Mapping[str, Setting], tables: Mapping[str, Any]) -> None:
    """What cannot be guessed is there."""
    from foretell.budget import Budget  # noqa: PLC0415 -- help must not pay for it

    for key in _REQUIRED:
        if settings[key].value is None:
            example = {"train": '"module:function"', "metric": '"val_loss"', "direction": '"minimize"'}[key]
            raise StudyError(f"{path} does not say {key!r}: add a line such as {key} = {example}.")
    if settings["direction"].value not in ("minimize", "maximize"):
        origin, value = settings["direction"].origin, settings["direction"].value
        raise StudyError(f'{origin}: direction = {value!r}: write "minimize" or "maximize".')
    if "space" not in tables:
        raise StudyError(
            f"{path} has no table [space]: add one, e.g.\n[space]\nlr = {{float = [1e-4, 0.1], log = true}}"
        )
    try:
        Budget.of(settings["budget"].value)
    except ForetellError as error:
        raise type(error)(f"{settings['budget'].origin}: {error}") from error


def _rule(table: dict[str, Any]) -> StoppingRule | None:
    from foretell.stopping import after  # noqa: PLC0415 -- brings NumPy
    from foretell.stopping.divergence import Divergence  # noqa: PLC0415 -- as above
    from foretell.stopping.epoch_limit import EpochLimit  # noqa: PLC0415 -- as above
    from foretell.stopping.patience import Patience  # noqa: PLC0415 -- as above
    from foretell.stopping.threshold import Threshold  # noqa: PLC0415 -- as above
    from foretell.stopping.time_limit import TimeLimit  # noqa: PLC0415 -- as above

    gain = {key: table.pop(key) for key in ("min_delta", "relative") if key in table}
    warm_up = table.pop("after", 0)
    if gain and "patience" not in table:
        raise ValueError(f"{' and '.join(gain)} belong to patience, which is not there: add e.g. patience = 5.")
    kinds: dict[str, Any] = {
        "threshold": Threshold, "divergence": Divergence, "epoch_limit": EpochLimit, "time_limit": TimeLimit,
    }  # fmt: skip
    rules: list[StoppingRule] = [kinds[key](table[key]) for key in kinds if key in table]
    if "patience" in table:
        rules.append(Patience(table["patience"], **gain))
    if not rules:
        return None
    rule = rules[0]
    for other in rules[1:]:
        rule = rule | other
    return after(warm_up, rule) if warm_up else rule
