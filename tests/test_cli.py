"""The command line: what it prints where, and how it leaves."""

from __future__ import annotations

import csv
import fcntl
import importlib
import io
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest

import foretell as ft
from foretell.cli import _config, _reader, foretell, main
from foretell.errors import ForetellError, StudyError
from foretell.stores.sqlite import SQLiteStore

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
COMMANDS = sorted(foretell.commands)
FILE = """
train = "work:train"
metric = "val_loss"
direction = "minimize"
budget = "3 trials"
workers = 0
{more}
[space]
x = {{float = [0.0, 1.0]}}
"""
WORK = """
def train(run):
    print("seen", run.params["x"])
    for epoch in run.epochs(4):
        run.report(val_loss=run.params["x"] + 1 / (epoch + 1))

def broken(run):
    raise RuntimeError("boom")

def silent(run):
    for epoch in run.epochs(4):
        run.report(val_loss=float("nan"))

def slow(run):
    import fcntl, pathlib
    weights = {"w": 0.0}
    run.track(weights=weights)
    for epoch in run.epochs(10):
        if run.step >= 3:
            with pathlib.Path(__file__).with_name("gate").open() as gate:
                fcntl.flock(gate, fcntl.LOCK_SH)
        run.report(val_loss=run.params["x"] + 1 / (epoch + 1))
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        data = json.loads(self.out)
        assert data["schema_version"] == 1
        return data


Call = Callable[..., Outcome]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in [name for name in os.environ if name.startswith("FORETELL_")]:
        monkeypatch.delenv(variable)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, *capsys.readouterr())

    yield run
    sys.modules.pop("work", None)


def write(folder: Path, *, train: str = "train", more: str = "", name: str = "study.toml", tail: str = "") -> Path:
    (folder / "work.py").write_text(WORK)
    path = folder / name
    path.write_text(FILE.format(more=more).replace("work:train", f"work:{train}") + tail)
    return path


@pytest.fixture
def made(tmp_path: Path) -> ft.Study:
    """A study in ./studies, with a winner, an early end and a failure."""
    study = ft.Study(
        ft.Space(x=ft.Float(0, 1), kind=ft.Choice(["a", "-b c"])), minimize="val_loss", name="made",
        store=tmp_path / "studies", retries=0,
    )  # fmt: skip

    def recorded(params: dict[str, Any]) -> ft.Recording:
        fails = 1 if 0.2 < params["x"] < 0.4 else None
        return ft.Recording([params["x"] + 1 / epoch for epoch in range(1, 10)], fails_at=fails)

    study.enqueue({"x": 0.1, "kind": "-b c"})
    study.enqueue({"x": 0.3, "kind": "a"})
    study.enqueue({"x": 0.9, "kind": "a"})
    study.run(None, "3 trials", executor=ft.Replay(recorded, can_pause=False), progress="none")  # type: ignore[arg-type]
    study.close()
    return study


# --- run -------------------------------------------------------------------------------------------------------------


def test_run_ends_with_the_best(call: Call, tmp_path: Path) -> None:
    write(tmp_path)
    done = call("run", "study.toml")
    assert done.code == 0
    record = ft.Study.open(tmp_path / "studies", "study").record
    assert len(record) == 3
    value = record.objective.value(record.losses[record.best])
    assert f"val_loss  {value:.4g}" in done.out
    assert "seen" not in done.out  # what the training prints is talk
    assert "seen" in done.err and "epochs trained" in done.err
    again = call("run", "study.toml", "--json")
    assert again.json["best"]["value"] == value


def test_run_with_events_on_stdout(call: Call, tmp_path: Path) -> None:
    write(tmp_path)
    done = call("run", "study.toml", "--progress", "json", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[0]["kind"] == "Begun" and lines[-2]["kind"] == "Concluded"
    assert lines[-1]["best"]["trial"] is not None


def test_run_without_a_result(call: Call, tmp_path: Path) -> None:
    write(tmp_path, train="silent")
    assert call("run", "study.toml").code == 1


def test_run_of_a_function_that_always_fails(call: Call, tmp_path: Path) -> None:
    write(tmp_path, train="broken", more="retries = 0")
    done = call("run", "study.toml")
    assert done.code == 1
    assert "RuntimeError: boom" in done.err and "docs/errors.md#trainingerror" in done.err


def test_a_dry_run_keeps_nothing(call: Call, tmp_path: Path) -> None:
    write(tmp_path)
    done = call("run", "study.toml", "--dry-run")
    assert done.code == 0
    assert "1 of 4 epochs" in done.out and "val_loss=" in done.out
    assert not (tmp_path / "studies").exists()
    assert call("run", "study.toml", "--dry-run", "--json").json["horizon"] == 4


def test_values_and_their_origins(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", more='store = "here"\nseed = 4')
    monkeypatch.setenv("FORETELL_WORKERS", "7")
    monkeypatch.setenv("FORETELL_BUDGET", "1 h")
    shown = call("run", "deep/study.toml", "--budget", "2 h", "--show-config", "--json").json["settings"]
    assert shown["budget"] == {"value": "2 h", "origin": "--budget"}
    assert shown["workers"] == {"value": 7, "origin": "FORETELL_WORKERS"}
    assert shown["seed"] == {"value": 4, "origin": "deep/study.toml"}
    assert shown["store"] == {"value": "deep/here", "origin": "deep/study.toml"}
    assert shown["name"] == {"value": "study", "origin": "default"}
    table = call("run", "deep/study.toml", "--show-config")
    assert re.search(r"^workers +7 +FORETELL_WORKERS$", table.out, re.MULTILINE)
    assert not (tmp_path / "deep" / "here").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workers", "wokers", "study.toml: unknown key 'wokers'. Did you mean 'workers'?"),
        ("workers = 0", 'workers = "2"', "workers = '2' is of the wrong type: give a whole number"),
        ("workers = 0", "workers = true", "give a whole number"),
        ('metric = "val_loss"', "", "does not say 'metric'"),
        ("minimize", "minimise", "'minimise': write \"minimize\" or"),
        ("3 trials", "3 trails", "study.toml: The budget '3 trails'"),
        ("[space]", "[stopping]\npatince = 3\n[space]", "[stopping]: unknown key 'patince'. Did you mean 'patience'?"),
        ("[space]", "[stopping]\npatience = 0\n[space]", "[stopping]: Patience(0)"),
        ("[space]", "[stopping]\nmin_delta = 0.1\n[space]", "belong to patience"),
        ("x = {float", "x = {flaot", "study.toml, [space]: "),
        ("[space]\nx = {float = [0.0, 1.0]}", "", "no table [space]"),
        ("metric =", "metric", "no valid TOML"),
        ("work:train", "work", 'write "module:function"'),
        ("work:train", "wrok:train", "no module 'wrok' beside the file or installed. Did you mean 'work'?"),
        ("work:train", "work:trian", "work has no function 'trian'. Did you mean 'train'?"),
        ("[space]", '[default]\nx = 3.0\n[space]', "x"),
        ("workers = 0", 'workers = 0\nsampler = "tpee"', "tpee"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_named(call: Call, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = call("run", "study.toml")
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err and not done.out


def test_a_module_that_cannot_be_imported(call: Call, tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("work:train", "crooked:train"))
    (tmp_path / "crooked.py").write_text("import no_such_package\n")
    assert "needs the module 'no_such_package'" in call("run", "study.toml").err
    (tmp_path / "crooked.py").write_text("def train(:\n")
    importlib.invalidate_caches()
    done = call("run", "study.toml")
    assert done.code == 2 and "SyntaxError" in done.err


def test_the_rules_of_the_file(tmp_path: Path) -> None:
    def rule(table: str) -> object:
        path = tmp_path / "study.toml"
        path.write_text(FILE.format(more="") + f"[stopping]\n{table}")
        return _config.read(path, {}, {}).stopping()

    assert rule("") is None
    assert rule("patience = 5\nmin_delta = 0.1") == ft.Patience(5, min_delta=0.1)
    assert rule("threshold = 0.01\npatience = 5") == ft.Threshold(0.01) | ft.Patience(5)
    assert rule("after = 3\ntime_limit = 60") == ft.after(3, ft.TimeLimit(60))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_ls(call: Call, made: ft.Study) -> None:
    done = call("ls")
    (line,) = done.out.splitlines()[1:]
    assert line.startswith("made") and "ended: " in line and f"{made.best.value:.4g}" in line
    (data,) = call("ls", "studies", "--json").json["studies"]
    assert data["best"]["params"] == made.best.params and data["trials"]["failed"] == 1


def test_ls_finds_the_store_by_variable(call: Call, made: ft.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_STORE", "studies")
    monkeypatch.chdir("/")
    assert call("ls").code == 4
    monkeypatch.setenv("FORETELL_STORE", str(made.folder and made.folder.parents[1]))
    assert "made" in call("ls").out


def test_show(call: Call, made: ft.Study) -> None:
    text = call("show", "made", "--top", "2").out
    assert "minimize val_loss" in text and made.verdict.reason in text
    assert len([line for line in text.splitlines() if re.match(r" +\d", line)]) == 2
    assert call("show", "made", "--json").json["top"][0]["trial"] == made.best.number


def test_show_a_trial(call: Call, made: ft.Study) -> None:
    text = call("show", "made", "--trial", str(made.best.number)).out
    assert "kind = '-b c'" in text and "▁" in text and "9 of 9" in text
    assert all(decision.reason in text for decision in made.best.decisions)
    failed = call("show", "made", "--trial", "1")
    assert "recorded crash" in failed.out
    data = call("show", "made", "--trial", "1", "--json").json
    assert data["state"] == "failed" and data["value"] is None
    outside = call("show", "made", "--trial", "3")
    assert outside.code == 2 and "its trials are 0 to 2" in outside.err


def test_best_in_three_languages(call: Call, made: ft.Study) -> None:
    params = made.best.params
    assert json.loads(call("best", "made").out) == params
    assert tomllib.loads(call("best", "made", "--format", "toml").out) == params
    assert shlex.split(call("best", "made", "--format", "args").out) == ["--x", "0.1", "--kind=-b c"]
    assert call("best", "made", "--json").json["best"] == {"trial": 0, "value": made.best.value, "params": params}


def test_best_of_nothing(call: Call, tmp_path: Path) -> None:
    ft.Study(ft.Space(x=ft.Float(0, 1)), minimize="loss", name="empty", store=tmp_path / "studies").close()
    done = call("best", "empty")
    assert done.code == 1 and not done.out and "no usable value" in done.err.replace("a usable", "no usable")
    assert call("ls").out.count("never run") == 1


def test_a_study_that_is_not_there(call: Call, made: ft.Study) -> None:
    done = call("show", "maed")
    assert done.code == 2
    assert "Did you mean 'made'?" in done.err and "docs/errors.md#studyerror" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in call("show", "maed", "--traceback").err


def test_export_trials(call: Call, made: ft.Study) -> None:
    rows = list(csv.DictReader(io.StringIO(call("export", "made").out)))
    assert [row["state"] for row in rows] == [trial.state.value for trial in made.trials]
    assert rows[0]["params.kind"] == "-b c" and float(rows[0]["value"]) == made.best.value
    assert rows[0]["reason"] == made.trials[0].decisions[-1].reason
    call("export", "made", "--format", "json", "-o", "rows.json")
    assert json.loads(Path("rows.json").read_text())["trials"][1]["value"] is None


def test_export_reports(call: Call, made: ft.Study) -> None:
    rows = list(csv.DictReader(io.StringIO(call("export", "made", "--curves").out)))
    assert len(rows) == sum(len(trial.curve) for trial in made.trials)
    assert float(rows[0]["metrics.val_loss"]) == pytest.approx(1.1)


def test_export_parquet(call: Call, made: ft.Study, needs: Callable[[str], ModuleType]) -> None:
    needs("pyarrow")
    from pyarrow import parquet

    assert call("export", "made", "--format", "parquet", "-o", "rows.parquet").code == 0
    table = parquet.read_table("rows.parquet")
    assert table.column("params.x").to_pylist() == [0.1, 0.3, 0.9]


def test_export_without_pyarrow(call: Call, made: ft.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = call("export", "made", "--format", "parquet", "-o", "x")
    assert done.code == 2 and "pip install pyarrow" in done.err


def test_logs(call: Call, made: ft.Study) -> None:
    assert made.folder is not None
    folder = made.folder / "trials" / "000000"
    folder.mkdir(parents=True)
    assert "printed nothing" in call("logs", "made", "0").err
    (folder / "output-1.log").write_bytes(b"hello \xff\n")
    assert call("logs", "made", "0").out == "hello \ufffd\n"
    assert call("logs", "made", "0", "--follow").out == "hello \ufffd\n"
    assert call("logs", "made", "0", "--json").json["attempts"] == [{"attempt": 1, "output": "hello \ufffd\n"}]
    assert call("logs", "made", "0", "--attempt", "2").code == 2


def test_stop_when_nothing_runs(call: Call, made: ft.Study, tmp_path: Path) -> None:
    done = call("stop", "made")
    assert done.code == 0 and "Nothing runs made" in done.err
    assert made.folder is not None and not (made.folder / "stop").exists()


def test_reading_and_stopping_while_the_lock_is_held(call: Call, made: ft.Study, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "studies")
    with store.lock("made"):
        assert f"running (pid {os.getpid()})" in call("ls").out
        assert call("show", "made").code == 0
        assert call("stop", "made", "--json").json["stopping"] is True
        assert made.folder is not None and (made.folder / "stop").exists()
    assert "running" not in call("ls").out


def test_a_dead_process_holds_nothing(made: ft.Study, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock = tmp_path / "studies" / "locks" / "made.lock"
    lock.write_text(json.dumps({"pid": ended.pid, "host": socket.gethostname(), "time": 0.0, "kind": "run"}))
    assert _reader.opened(tmp_path / "studies").holder("made") is None
    lock.write_text("{")
    assert _reader.opened(tmp_path / "studies").holder("made") is None


def test_a_busy_store_is_exit_code_four(call: Call, tmp_path: Path) -> None:
    write(tmp_path)
    with SQLiteStore(tmp_path / "studies").lock("study"):
        done = call("run", "study.toml")
    assert done.code == 4 and "docs/errors.md#storebusy" in done.err


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_of_a_good_store(call: Call, made: ft.Study) -> None:
    done = call("doctor", "studies", "--json")
    checks = {check["what"]: check for check in done.json["checks"]}
    assert done.code == 0 and {check["level"] for check in checks.values()} == {"ok"}
    assert "is whole" in checks["store"]["detail"] and "numpy" in checks["packages"]["detail"]
    assert sqlite3.sqlite_version in checks["sqlite"]["detail"]
    assert "study made" in call("doctor", "studies").out


def test_doctor_finds_folders_without_an_owner(call: Call, made: ft.Study) -> None:
    assert made.folder is not None
    lost = made.folder / "trials" / "000000" / "checkpoints" / "step-1"
    lost.mkdir(parents=True)
    (lost / "tensors").write_bytes(b"x" * 1500)
    (check,) = [check for check in call("doctor", "studies", "--json").json["checks"] if check["level"] == "warn"]
    assert "1.5 KB" in check["detail"] and str(Path("studies/studies/made")) in check["cure"]


def test_doctor_of_a_damaged_store(call: Call, made: ft.Study, tmp_path: Path) -> None:
    file = tmp_path / "studies" / "store.db"
    for path in file.parent.glob("store.db-*"):
        path.unlink()
    file.write_bytes(b"no database" * 1000)
    done = call("doctor", "studies")
    assert done.code == 4
    assert "fail" in done.out and "mv studies/store.db" in done.out


def test_doctor_without_a_store(call: Call) -> None:
    assert call("doctor").code == 0


# --- processes -------------------------------------------------------------------------------------------------------


def test_help_is_exit_code_zero_and_misuse_two(call: Call) -> None:
    assert call("--help").code == 0
    assert call("shwo").code == 2
    assert call("show").code == 2
    assert call("--version").out.split()[-1] == ft.__version__


def test_what_nobody_foresaw_is_exit_code_three(call: Call, made: ft.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("foretell.stores.sqlite.SQLiteStore.holder", fails)
    done = call("ls")
    assert done.code == 3 and "ZeroDivisionError: by nought" in done.err and "Traceback" not in done.err
    with pytest.raises(ZeroDivisionError):
        main(["ls", "--traceback"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_saves_and_says_how_to_go_on(call: Call, tmp_path: Path, number: int, code: int) -> None:
    write(tmp_path, train="slow", more='scheduler = "full"')
    options = ["run", "study.toml", "--workers", "2", "--progress", "json"]
    command = [sys.executable, "-W", "error", "-m", "foretell.cli", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(ft.__file__).parents[1])}
    with (
        (tmp_path / "gate").open("w") as gate,
        (tmp_path / "talk").open("w") as talk,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=talk, text=True
        ) as process,
    ):
        fcntl.flock(gate, fcntl.LOCK_EX)  # the trainings wait for it in their fourth epoch
        assert process.stdout is not None
        waiting = 0
        while waiting < 2:
            line = process.stdout.readline()
            assert line, (tmp_path / "talk").read_text()
            event = json.loads(line)
            waiting += event["kind"] == "Reported" and event["step"] == 3
        process.send_signal(number)
        fcntl.flock(gate, fcntl.LOCK_UN)
        process.stdout.read()
    said = (tmp_path / "talk").read_text()
    assert process.returncode == code, said
    assert said.splitlines()[-1] == f"interrupted; to go on: foretell {shlex.join(options)}"
    assert "Traceback" not in said
    record = ft.Study.open(tmp_path / "studies", "study").record
    assert record.paused and not record.running
    assert "interrupted" in call("ls").out
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    record = ft.Study.open(tmp_path / "studies", "study").record
    assert record.counts[ft.State.DONE] == 3
    assert record.epochs_spent == 30  # nothing was trained twice


# --- the page --------------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    parts = re.split(r"^## `foretell (\w+)`$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_command() -> None:
    assert sorted(sections()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_option(name: str) -> None:
    options = {
        text for option in foretell.commands[name].params if isinstance(option, click.Option) for text in option.opts
    }
    own = options - {"--json", "--traceback"}
    assert options - own == {"--json", "--traceback"}
    described = {text for line in sections()[name].splitlines() if line.startswith("- `-")
                 for text in re.findall(r"`(--?[a-z-]+)`", line.partition(": ")[0])}  # fmt: skip
    assert described == own


def test_the_page_has_every_key_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (`[a-z_`, ]+) \| (.*?) \|", sections()["run"], re.MULTILINE))
    listed = {key: default for keys, default in rows.items() for key in re.findall(r"`(\w+)`", keys)}
    assert {*listed, "train", "metric", "direction"} == set(_config.KEYS)
    for key, default in listed.items():
        if key not in ("budget", "name"):
            assert default.strip("`") == str(_config.KEYS[key][1])
    for key in _config._STOPPING:
        assert f"`{key}`" in sections()["run"]


def test_the_example_of_the_page_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "study.toml").write_text(example)
    config = _config.read(tmp_path / "study.toml", {}, {})
    assert config.space().validate(config.tables["default"])
    assert config.stopping() == ft.Threshold(0.01) | ft.Patience(5)


def test_every_error_of_the_file_is_one_of_ours() -> None:
    assert issubclass(StudyError, ForetellError)
    with pytest.raises(StudyError, match="cannot be read"):
        _config.read(Path("no-such-file.toml"), {}, {})
