"""`foretell run`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell import _family
from foretell.cli import _config
from foretell.cli._output import document, fields, table, talk
from foretell.errors import StudyError, did_you_mean
from foretell.progress.plain import number, params, seconds

if TYPE_CHECKING:
    from foretell.cli._config import Config
    from foretell.study import Study


def run(file: Path, options: Mapping[str, Any], *, dry_run: bool, show_config: bool, as_json: bool) -> int:
    """Run, or look before running.

    Args:
        file: the study.toml.
        options: of the command line, None where not given.
        dry_run: train one epoch instead.
        show_config: print the configuration instead.
        as_json: whether stdout gets JSON.

    Returns:
        The exit code.
    """
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    config = _config.read(file, given)
    if show_config:
        return _show_config(config, as_json)
    train = _function(config)
    if dry_run:
        return _dry_run(config, train, as_json)
    study = _study(config, config["store"])
    events = config["progress"] == "json"
    progress = _family.load("progress", "ndjson")(sys.stdout) if events else config["progress"]
    with contextlib.redirect_stdout(sys.stderr):  # what trainings in this process print is talk
        study.run(
            train, config["budget"], workers=config["workers"], stopping=config.stopping(),
            gpus_per_run=config["gpus_per_run"], progress=progress,
        )  # fmt: skip
    _report(config, study, as_json=as_json, one_line=events)
    study.close()
    return 0 if study.record.best is not None else 1


def _study(config: Config, store: str | None) -> Study:
    from foretell.study import Study  # noqa: PLC0415 -- a mistake in the file is told before this is paid for

    chosen = {key: config[key] for key in ("name", "seed", "sampler", "scheduler", "terminator", "value", "retries")}
    return Study(
        config.space(), **{config["direction"]: config["metric"]}, store=store, default=config.tables.get("default"),
        keep_checkpoints=config["keep_checkpoints"], **chosen,
    )  # fmt: skip


def _function(config: Config) -> Callable[..., Any]:
    """The training function, from the folder of the file or anywhere on the path.

    Raises:
        StudyError: it is not there, or the module cannot be imported.
    """
    text, origin = config["train"], config.settings["train"].origin
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise StudyError(f'{origin}: train = {text!r} names no function: write "module:function".')
    folder = str(config.path.parent.absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = _family.load("train", text)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise StudyError(f"{origin}: {module} needs the module {error.name!r}, which is not installed.") from error
        found = did_you_mean(module, (path.stem for path in config.path.parent.absolute().glob("*.py")))
        raise StudyError(f"{origin}: there is no module {module!r} beside the file or installed. {found}") from error
    except AttributeError as error:
        functions = (
            [key for key, value in vars(sys.modules[module]).items() if callable(value)]
            if module in sys.modules
            else []
        )
        if name in functions or module not in sys.modules:
            raise
        raise StudyError(f"{origin}: {module} has no function {name!r}. {did_you_mean(name, functions)}") from error
    except Exception as error:
        raise StudyError(f"{origin}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise StudyError(f"{origin}: {text} is {function!r}, which cannot be called: name a function.")
    trained: Callable[..., Any] = function
    return trained


def _show_config(config: Config, as_json: bool) -> int:
    if as_json:
        values = {key: {"value": setting.value, "origin": setting.origin} for key, setting in config.settings.items()}
        document({"file": str(config.path), "settings": values, **config.tables})
        return 0
    rows = [("–" if setting.value is None else setting.value, setting.origin) for setting in config.settings.values()]
    names = list(config.settings)
    tables = [(f"[{name}]", ", ".join(keys), str(config.path)) for name, keys in config.tables.items()]
    shown = [(name, *row) for name, row in zip(names, rows, strict=True)]
    table(("key", "value", "from"), [*shown, *tables], left=("key", "value", "from"))
    return 0


def _dry_run(config: Config, train: Callable[..., Any], as_json: bool) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        trial = _study(config, None).dry_run(train)
    if as_json:
        document({"state": trial.state, "value": trial.value, "seconds": trial.cost, "params": trial.params,
                  "metrics": trial.values, "horizon": trial.horizon})  # fmt: skip
    else:
        full = f" of {trial.horizon}" if trial.horizon else ""
        fields([
            ("dry run", f"{trial.step}{full} epochs in {seconds(trial.cost)}"),
            ("params", params(trial.params)),
            ("reported", params(trial.values)),
        ])  # fmt: skip
    return 0 if trial.value is not None else 1


def _report(config: Config, study: Study, *, as_json: bool, one_line: bool) -> None:
    record, verdict = study.record, study.verdict
    best = None if record.best is None else record.trial(record.best)
    if as_json:
        winner = best and {"trial": best.number, "value": best.value, "params": best.params}
        counts = {state.value: count for state, count in record.counts.items()}
        document(
            {"study": study.name, "best": winner, "verdict": verdict.to_json(), "trials": counts,
             "epochs": record.epochs_spent, "seconds": record.seconds()},
            one_line=one_line,
        )  # fmt: skip
    elif best is not None and not one_line and not (sys.stdout.isatty() and config["progress"] != "none"):
        fields([(record.objective.metric, number(best.value)), ("trial", best.number), ("params", params(best.params))])
    talk(f"more: foretell show {study.name} --store {config['store']}")
