"""`foretell export`: a study as rows."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from foretell import events
from foretell.cli._output import talk
from foretell.cli._reader import Reader, opened
from foretell.errors import MissingExtra, StudyError
from foretell.progress.ndjson import SCHEMA_VERSION, finite

Rows = list[dict[str, Any]]


def export(store: Path, name: str, *, form: str, output: Path | None, curves: bool) -> int:
    """Write one row a trial, or one a report.

    Raises:
        MissingExtra: Parquet without pyarrow.
        StudyError: Parquet to a terminal, or a file that cannot be written.
    """
    reader = Reader(store, opened(store), name)
    rows = list(_reports(reader) if curves else _trials(reader))
    if form == "parquet":
        _parquet(rows, output)
    else:
        kind = "reports" if curves else "trials"
        text = _csv(rows) if form == "csv" else _json({"study": name, kind: rows})
        if output is None:
            click.echo(text, nl=False)
        else:
            with _writing(output):
                output.write_text(text, encoding="utf-8", newline="")
    if output is not None:
        talk(f"{len(rows):,} rows in {output}")
    return 0


def _trials(reader: Reader) -> Iterator[dict[str, Any]]:
    """Parameters and metrics carry a prefix, so that no name can hide a column."""
    names = {f"params.{name}": None for params in reader.record.params for name in params}
    metrics = {f"metrics.{name}": None for name in reader.record.metrics}
    for trial in reader.record.trials:
        yield {
            "trial": trial.number,
            "state": trial.state.value,
            "value": trial.value,
            "best_step": trial.best_step,
            "epochs": trial.step,
            "horizon": trial.horizon,
            "seconds": trial.cost,
            "attempts": trial.attempts,
            "parent": trial.parent,
            **names,
            **{f"params.{name}": value for name, value in trial.params.items()},
            **metrics,
            **{f"metrics.{name}": value for name, value in trial.values.items()},
            "reason": trial.decisions[-1].reason if trial.decisions else None,
            "error": trial.error,
        }


def _reports(reader: Reader) -> Iterator[dict[str, Any]]:
    names: dict[str, None] = dict.fromkeys(reader.record.metrics)
    for entry in reader.log():
        event = entry.event
        if isinstance(event, events.Reported):
            place = {"trial": event.trial, "attempt": event.attempt, "step": event.step, "seconds": event.seconds}
            yield {**place, **{f"metrics.{name}": event.metrics.get(name) for name in names}}


def _csv(rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _json(data: dict[str, Any]) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, **finite(data)}, indent=2) + "\n"


def _parquet(rows: Rows, output: Path | None) -> None:
    try:
        import pyarrow as arrow  # noqa: PLC0415 -- an extra
        from pyarrow import parquet  # noqa: PLC0415 -- as above
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet needs the package 'pyarrow': install it with `pip install pyarrow`.") from error
    if output is None and sys.stdout.isatty():
        raise StudyError("Parquet is no text for a terminal: name a file with -o FILE.")
    names = list(rows[0]) if rows else []
    content = arrow.table({name: _alike([row[name] for row in rows]) for name in names})
    if output is None:
        parquet.write_table(content, sys.stdout.buffer)
    else:
        with _writing(output):
            parquet.write_table(content, output)


def _alike(values: list[Any]) -> list[Any]:
    """A column of one type: text and numbers together become text, as a column of Parquet has one type."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) < 2:
        return [float(value) if kinds == {int, float} and value is not None else value for value in values]
    return [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror}): choose another file.") from error
