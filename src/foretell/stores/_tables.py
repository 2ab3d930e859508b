"""The tables of a store in SQLAlchemy Core, and how entries become rows. Imported only once a store is opened.

`migrations/` builds the same tables step by step; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import index
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Column, Connection, ForeignKey, Integer, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import UserDefinedType

from foretell.events import Event, Reported, from_json, to_json
from foretell.stores import Entry
from foretell.stores._json import dumps, loads

VERSION = "0001"
"""The newest revision in `migrations/versions`."""


class _Untyped(UserDefinedType[float]):
    """A column without a declared type: SQLite turns -0.0 into 0 in every typed one."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Nothing."""
        return ""


_NUMBER: sa.types.TypeEngine[float] = sa.Double().with_variant(_Untyped(), "sqlite")
METADATA = sa.MetaData()

STUDY = Table(
    "study",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("created", _NUMBER, nullable=False),
)
EVENT = Table(
    "event",
    METADATA,
    Column("study_id", Integer, ForeignKey("study.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("time", _NUMBER, nullable=False),
    Column("kind", Text, nullable=False),
    Column("trial", Integer),
    Column("attempt", Integer),
    Column("data", Text, nullable=False),
    sa.Index("event_by_trial", "study_id", "trial", "kind"),
    sqlite_with_rowid=False,
)
METRIC_NAME = Table(
    "metric_name",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)
REPORT = Table(
    "report",
    METADATA,
    Column("study_id", Integer, ForeignKey("study.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("time", _NUMBER, nullable=False),
    Column("trial", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("seconds", _NUMBER),
    sqlite_with_rowid=False,
)
METRIC = Table(
    "metric",
    METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name_id", Integer, ForeignKey("metric_name.id"), nullable=False),
    Column("value", _NUMBER),
    sa.ForeignKeyConstraint(["study_id", "sequence"], ["report.study_id", "report.sequence"]),
    sqlite_with_rowid=False,
)


def _between(table: Table, *columns: str) -> sa.Select[Any]:
    """Some columns of the rows of a study from `start` up to `stop`."""
    row = table.c.sequence
    chosen = (table.c.study_id == sa.bindparam("study")) & (row >= sa.bindparam("start")) & (row < sa.bindparam("stop"))
    order = table.primary_key.columns.values()
    return sa.select(*(table.c[name] for name in columns)).where(chosen).order_by(*order)


_EVENTS = _between(EVENT, "sequence", "time", "kind", "trial", "attempt", "data")
_REPORTS = _between(REPORT, "sequence", "time", "trial", "attempt", "step", "seconds")
_METRICS = _between(METRIC, "sequence", "name_id", "value")


def _text(statement: sa.ClauseElement) -> str:
    """Compiled once: these run with every commit, and compiling them anew is half of what they cost."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


def _newest(table: sa.Table) -> sa.ColumnElement[int]:
    found = sa.select(sa.func.max(table.c.sequence)).where(table.c.study_id == sa.bindparam("study"))
    return sa.func.coalesce(found.scalar_subquery(), sa.literal_column("-1"))


_INSERTS = tuple(_text(sa.insert(table)) for table in (EVENT, REPORT, METRIC))
_END = _text(sa.select(sa.func.max(_newest(EVENT), _newest(REPORT))))


class Rows(NamedTuple):
    """Entries as rows; a metric still carries its name in the place of the name's number."""

    events: list[dict[str, Any]]
    reports: list[dict[str, Any]]
    metrics: list[dict[str, Any]]


def rows(study: int, entries: Iterable[Entry]) -> Rows:
    """What to insert for the entries of a study.

    Raises:
        TypeError, ValueError, OverflowError: an event holds something that is no plain data.
    """
    result = Rows([], [], [])
    for sequence, time, event in entries:
        key = {"study_id": study, "sequence": sequence}
        if type(event) is Reported:
            # The driver takes anything with a buffer for bytes, a NumPy integer too: only an int is an int to it.
            place = {"trial": index(event.trial), "attempt": index(event.attempt), "step": index(event.step)}
            result.reports.append({**key, "time": float(time), **place, "seconds": _number(event.seconds)})
            for position, (name, value) in enumerate(event.metrics.items()):
                result.metrics.append({**key, "position": position, "name_id": name, "value": _number(value)})
        else:
            data = to_json(event)
            row: dict[str, Any] = {"time": float(time), "kind": data.pop("kind")}
            row |= {name: index(data.pop(name)) if name in data else None for name in ("trial", "attempt")}
            result.events.append({**key, **row, "data": dumps(data)})
    return result


def write(connection: Connection, rows: Rows, known: dict[str, int]) -> dict[str, int]:
    """Insert rows.

    Args:
        connection: within a transaction.
        rows: what to insert; a metric's name is replaced by its number.
        known: names of metrics whose number is durable.

    Returns:
        The other names with their numbers, which hold once the transaction is committed.
    """
    fresh: dict[str, int] = {}
    for metric in rows.metrics:
        name = metric["name_id"]
        number = known.get(name) or fresh.get(name)
        if number is None:
            number = fresh[name] = _number_of(connection, name)
        metric["name_id"] = number
    for insert, found in zip(_INSERTS, rows, strict=True):
        if found:
            connection.exec_driver_sql(insert, found)
    return fresh


def end(connection: Connection, study: int) -> int:
    """The sequence number that comes next in a study's log."""
    (newest,) = connection.exec_driver_sql(_END, {"study": study}).one()
    return int(newest) + 1


def metric_names(connection: Connection) -> dict[int, str]:
    """The names of all metrics by their numbers."""
    return {row.id: row.name for row in connection.execute(sa.select(METRIC_NAME.c.id, METRIC_NAME.c.name))}


def read(connection: Connection, study: int, start: int, stop: int) -> list[Entry]:
    """The entries from `start` up to `stop`, all of which are known to be in the store.

    Raises:
        LookupError, TypeError, ValueError: what is stored makes no sense.
    """
    span = {"study": study, "start": start, "stop": stop}
    metrics: dict[int, dict[str, float]] = {}
    names: dict[int, str] = {}
    for sequence, number, value in connection.execute(_METRICS, span).all():
        if number not in names:
            names = metric_names(connection)
        metrics.setdefault(sequence, {})[names[number]] = math.nan if value is None else value
    found: list[Entry | None] = [None] * (stop - start)
    for sequence, time, trial, attempt, step, seconds in connection.execute(_REPORTS, span).all():
        duration = math.nan if seconds is None else seconds
        event: Event = Reported(trial, attempt, step, metrics.get(sequence, {}), duration)
        found[sequence - start] = Entry(sequence, time, event)
    for sequence, time, kind, trial, attempt, data in connection.execute(_EVENTS, span).all():
        place = {"kind": kind, "trial": trial, "attempt": attempt}
        values = {name: value for name, value in place.items() if value is not None} | loads(data)
        found[sequence - start] = Entry(sequence, time, from_json(values))
    entries = [entry for entry in found if entry is not None]
    if len(entries) < len(found):
        raise LookupError(f"the log lacks entry {start + found.index(None)}")
    return entries


def _number(value: float) -> float | None:
    """A float as it is stored: SQLite has no NaN, so its place stays empty."""
    value = float(value)
    return None if math.isnan(value) else value


def _number_of(connection: Connection, name: str) -> int:
    """The number of a metric's name, which gets one if it has none."""
    number: int | None = connection.scalar(sa.select(METRIC_NAME.c.id).where(METRIC_NAME.c.name == name))
    if number is None:
        number = connection.scalars(sa.insert(METRIC_NAME).returning(METRIC_NAME.c.id), {"name": name}).one()
    return number
