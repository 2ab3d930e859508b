"""The tables as others see them: what the page says, what an old file holds, what the views show."""

from __future__ import annotations

import math
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from foretell.objective import Objective
from foretell.record import Record
from foretell.space import Float, Int, Space
from foretell.stores import _connections, _tables
from foretell.stores.sqlite import SQLiteStore
from tests.stores import golden

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
GOLDEN = sorted(golden.FOLDER.glob("store-*.db"))
SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY type, name"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("store")
    golden.make(folder)
    with closing(sqlite3.connect(f"{(folder / 'store.db').as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def views(database: sqlite3.Connection) -> dict[str, list[str]]:
    names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    return {name: [row["name"] for row in database.execute(f"PRAGMA table_info({name})")] for name in names}


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_page_runs_and_finds_something(query: str, database: sqlite3.Connection) -> None:
    assert database.execute(query).fetchall()


def test_the_page_names_every_table_view_and_column(database: sqlite3.Connection) -> None:
    page = PAGE.read_text()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    assert not {name for name in tables if f"`{name}`" not in page}
    for name, columns in views(database).items():
        section = re.search(rf"^### `{name}`\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE)
        assert section, f"docs/schema.md has no section for the view {name}"
        assert not {column for column in columns if f"`{column}`" not in section[1]}
    for table in _tables.METADATA.tables.values():
        (row,) = re.findall(rf"^\| `{table.name}` \|.*", page, re.MULTILINE)
        assert not {column.name for column in table.columns if f"`{column.name}`" not in row}


def test_the_migrations_build_the_tables_of_the_code(tmp_path: Path) -> None:
    golden.make(tmp_path)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    _tables.METADATA.create_all(engine)
    engine.dispose()
    schemas = []
    for name in ("store.db", "created.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            found = connection.execute(SCHEMA).fetchall()
        schemas.append([(kind, table, " ".join((sql or "").split())) for kind, table, sql in found if kind != "view"])
    assert schemas[0] == schemas[1]


def test_the_code_knows_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(_connections.MIGRATIONS)).get_heads() == [_tables.VERSION]


def test_every_version_has_its_golden_file() -> None:
    assert [path.stem for path in GOLDEN][-1] == f"store-{_tables.VERSION}"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_store_of_an_earlier_version_keeps_its_log(path: Path, tmp_path: Path) -> None:
    shutil.copyfile(path, tmp_path / "store.db")
    store = SQLiteStore(tmp_path)
    assert store.names() == ["cnn", "empty"]
    assert store.spec("cnn") == golden.SPEC and store.spec("empty") == {}
    assert repr(list(store.entries("cnn"))) == repr(golden.ENTRIES)
    assert list(store.entries("empty")) == []
    more = [entry._replace(sequence=len(golden.ENTRIES) + entry.sequence) for entry in golden.ENTRIES]
    store.append("cnn", more)
    assert repr(list(store.entries("cnn"))) == repr(golden.ENTRIES + more)
    store.close()


# --- the views, held against the record that the same events fold into ------------------------------------------------


@pytest.fixture(scope="module")
def record() -> Record:
    folded = Record(Space(lr=Float(1e-4, 0.1), layers=Int(1, 8)), Objective("val_loss"))
    for entry in golden.ENTRIES:
        folded.apply(entry.event, entry.time)
    return folded


def test_trials_are_those_of_the_record(database: sqlite3.Connection, record: Record) -> None:
    rows = database.execute("SELECT * FROM trial WHERE study = 'cnn' ORDER BY number").fetchall()
    assert [row["number"] for row in rows] == [0, 1, 2]
    for row, trial in zip(rows, record.trials, strict=True):
        shown = (row["state"], row["step"], row["attempts"], row["parent"], row["seconds"])
        assert shown == (trial.state.value, trial.step, trial.attempts, trial.parent, trial.cost)
        assert _tables.loads(row["params"]) == trial.params
        assert (row["ended"] is not None) == trial.state.ended


def test_curves_are_those_of_the_record(database: sqlite3.Connection, record: Record) -> None:
    query = "SELECT step, value, seconds FROM curve WHERE trial = ? AND metric = 'val_loss' ORDER BY sequence"
    for trial in record.trials:
        points = [
            (step, math.nan if value is None else value, s)
            for step, value, s in database.execute(query, [trial.number])
        ]
        assert repr(points) == repr([tuple(point) for point in trial.curve])


def test_decisions_are_those_of_the_record(database: sqlite3.Connection, record: Record) -> None:
    for trial in record.trials:
        rows = database.execute("SELECT * FROM decision WHERE trial = ? ORDER BY sequence", [trial.number]).fetchall()
        assert [(row["action"], row["rule"], row["reason"]) for row in rows] == [
            (verdict.action, verdict.rule, verdict.reason) for verdict in trial.decisions
        ]
    (on_study,) = database.execute("SELECT * FROM decision WHERE trial IS NULL").fetchall()
    assert (on_study["rule"], on_study["value"], on_study["limit"]) == ("budget", 3.0, 3.0)
    (diverged,) = database.execute("SELECT value, \"limit\" FROM decision WHERE rule = 'divergence'").fetchall()
    assert tuple(diverged) == ("nan", "inf")


def test_checkpoints_on_disk_are_those_that_were_not_dropped(database: sqlite3.Connection) -> None:
    query = "SELECT folder, digest, newest, best FROM checkpoint WHERE dropped IS NULL"
    assert [tuple(row) for row in database.execute(query)] == [("trials/0/checkpoints/2", "ab" * 32, 0, 1)]


@pytest.mark.parametrize(
    ("trial", "metric", "expected"),
    [(0, "val_loss", (0.59, 0.75, 0.61, 4)), (0, "acc", (0.5, 1.0, 0.75, 3)), (1, "val_loss", (0.9, 0.9, None, 2))],
)
def test_summary_ignores_what_is_no_number(
    trial: int, metric: str, expected: tuple[Any, ...], database: sqlite3.Connection
) -> None:
    query = "SELECT lowest, highest, last, step FROM summary WHERE study = 'cnn' AND trial = ? AND metric = ?"
    assert tuple(database.execute(query, [trial, metric]).fetchone()) == expected


def test_attempts_say_how_they_ended(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT trial, attempt, state, first_step, step, cause FROM attempt ORDER BY 1, 2"
    ).fetchall()
    assert [tuple(row) for row in rows] == [
        (0, 1, "queued", 0, 2, "signal"),
        (0, 2, "stopped", 2, 4, None),
        (1, 1, "diverged", 0, 2, None),
        (2, 1, "running", 0, 1, None),
    ]
