"""The command line: what can be typed. What is done then stands in the files beside this, loaded when it is needed.

stdout carries data, stderr carries talk. Exit codes: 0 done, 1 ended without a valid result, 2 wrong usage or
configuration, 3 internal error, 4 store unreachable, 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from foretell._version import __version__
from foretell.errors import ForetellError, StoreError, TrainingError

DONE, NO_RESULT, USAGE, INTERNAL, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130
_FOLDER = click.Path(path_type=Path)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _common(function: _Function) -> _Function:
    """Options of every command."""
    traceback = click.option("--traceback", is_flag=True, expose_value=False, help="Show where an error came from.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return as_json(traceback(function))


_in_store = click.option(
    "--store", type=_FOLDER, envvar="FORETELL_STORE", default="studies", show_default=True, show_envvar=True,
    help="Folder that keeps the studies.",
)  # fmt: skip
_of_store = click.argument("store", type=_FOLDER, envvar="FORETELL_STORE", default="studies")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="foretell")
def foretell() -> None:
    """Hyperparameter search and early termination of trainings under one budget."""


@foretell.command()
@click.argument("file", type=_FOLDER)
@click.option("--store", type=_FOLDER, help="Folder that keeps the study.")
@click.option("--name", help="Name of the study in its store.")
@click.option("--workers", type=click.IntRange(min=0), help="Trainings at once; 0 trains in this process.")
@click.option("--budget", help="Limit over all sessions, e.g. '30 min, 200 trials'.")
@click.option("--seed", type=int, help="Same seed, same trials with one worker.")
@click.option(
    "--progress", type=click.Choice(["auto", "live", "plain", "json", "none"]),
    help="How the study shows itself; json prints each event as a line on stdout.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Train one epoch of one configuration, and keep nothing.")
@click.option("--show-config", is_flag=True, help="Print every value and where it comes from, and run nothing.")
@_common
def run(file: Path, dry_run: bool, show_config: bool, as_json: bool, **options: Any) -> int:
    """Run a study, or go on with it.

    FILE is a study.toml. Running it again after Ctrl-C or a crash goes on where the study was.
    """
    from foretell.cli import _run  # noqa: PLC0415 -- loads what a command needs with the command

    try:
        return _run.run(file, options, dry_run=dry_run, show_config=show_config, as_json=as_json)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


@foretell.command()
@_of_store
@_common
def ls(store: Path, as_json: bool) -> int:
    """List studies.

    STORE is the folder that keeps them; $FORETELL_STORE or ./studies if left out.
    """
    from foretell.cli import _show  # noqa: PLC0415 -- as above

    return _show.studies(store, as_json=as_json)


@foretell.command()
@click.argument("study")
@_in_store
@click.option("--trial", type=click.IntRange(min=0), help="Show this trial alone, with all that is known of it.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Trials in the table.")
@_common
def show(study: str, store: Path, trial: int | None, top: int, as_json: bool) -> int:
    """Show a study or a trial."""
    from foretell.cli import _show  # noqa: PLC0415 -- as above

    if trial is None:
        return _show.study(store, study, top=top, as_json=as_json)
    return _show.trial(store, study, trial, as_json=as_json)


@foretell.command()
@click.argument("study")
@_in_store
@click.option(
    "--format", "form", type=click.Choice(["json", "toml", "args"]), default="json", show_default=True,
    help="args: for a command line, --lr 0.01 --width 64.",
)  # fmt: skip
@_common
def best(study: str, store: Path, form: str, as_json: bool) -> int:
    """Print the best configuration.

    The exit code is 1 if STUDY has none yet.
    """
    from foretell.cli import _show  # noqa: PLC0415 -- as above

    return _show.best(store, study, form=form, as_json=as_json)


@foretell.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@_in_store
@click.option("--attempt", type=click.IntRange(min=1), help="This attempt alone.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing until the trial has ended.")
@_common
def logs(study: str, trial: int, store: Path, attempt: int | None, follow: bool, as_json: bool) -> int:
    """Print what a training has printed."""
    from foretell.cli import _files  # noqa: PLC0415 -- as above

    return _files.logs(store, study, trial, attempt=attempt, follow=follow, as_json=as_json)


@foretell.command()
@click.argument("study")
@_in_store
@_common
def stop(study: str, store: Path, as_json: bool) -> int:
    """End a running study; it can go on later.

    The process that runs STUDY saves its trainings first.
    """
    from foretell.cli import _files  # noqa: PLC0415 -- as above

    return _files.stop(store, study, as_json=as_json)


@foretell.command()
@click.argument("study")
@_in_store
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@click.option("--output", "-o", type=_FOLDER, help="File to write; stdout if left out.")
@click.option("--curves", is_flag=True, help="One row for each report instead of one for each trial.")
@_common
def export(study: str, store: Path, form: str, output: Path | None, curves: bool, as_json: bool) -> int:
    """Write the trials of a study as rows."""
    from foretell.cli import _export  # noqa: PLC0415 -- as above

    return _export.export(store, study, form="json" if as_json else form, output=output, curves=curves)


@foretell.command()
@_of_store
@_common
def doctor(store: Path, as_json: bool) -> int:
    """Check this machine and a store.

    STORE is the folder of studies; $FORETELL_STORE or ./studies if left out.
    """
    from foretell.cli import _doctor  # noqa: PLC0415 -- as above

    return _doctor.doctor(store, as_json=as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code.

    Args:
        arguments: as typed; those of the process if left out.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a terminal without Unicode gets question marks
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = foretell.main(given, prog_name="foretell", standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        code = USAGE
    except (click.Abort, KeyboardInterrupt):
        _resumable(given)
        code = INTERRUPTED
    except SystemExit as end:
        _resumable(given)
        code = end.code if isinstance(end.code, int) else INTERNAL
    except ForetellError as error:
        code = _explained(error, given)
    except Exception as error:
        if "--traceback" in given:
            raise
        click.echo(f"internal error: {type(error).__name__}: {error}\nAdd --traceback to see where.", err=True)
        code = INTERNAL
    sys.exit(code)


def _resumable(given: Sequence[str]) -> None:
    """After an interrupt the last line says how to go on."""
    if given[:1] == ["run"]:
        click.echo(f"interrupted; to go on: {shlex.join(['foretell', *given])}", err=True)


def _explained(error: ForetellError, given: Sequence[str]) -> int:
    """Say what went wrong and where it is explained; the exit code that fits."""
    if "--traceback" in given:
        import traceback  # noqa: PLC0415 -- only for this

        traceback.print_exception(error)
    name = type(error).__name__
    click.echo(f"error: {error}\n(docs/errors.md#{name.lower()})", err=True)
    kinds = ((StoreError, UNREACHABLE), (TrainingError, NO_RESULT))
    return next((code for kind, code in kinds if isinstance(error, kind)), USAGE)
