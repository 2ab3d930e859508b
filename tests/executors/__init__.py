"""Scripts as users write them, run in a fresh interpreter, with a harness that starts trainings and waits for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"
LIMIT = 120.0  # seconds; only a test that has failed waits so long

HARNESS = """
import atexit, contextlib, json, os, select, signal, socket, sys
from pathlib import Path
from foretell.executors._launcher import Launcher

def main(function, task, channel, *, load_error=None):
    answer = {"load_error": repr(load_error)} if load_error else {"value": function(task)}
    channel.sendall(json.dumps(answer).encode())
    channel.close()
    return task.get("code")

def block(function, task, channel, *, load_error=None):
    # Deaf to its channel, so that only a signal ends it.
    channel.sendall(json.dumps({"value": function(task)}).encode())
    channel.shutdown(socket.SHUT_WR)
    while True:
        signal.pause()

def leave(function, task, channel, *, load_error=None):
    # Ends only when the test has taken note of what it leaves behind.
    channel.sendall(json.dumps({"value": function(task)}).encode())
    channel.shutdown(socket.SHUT_WR)
    channel.recv(1)

def launcher(function, *, threads=1, entry="main"):
    made = Launcher(function, entry=f"harness:{entry}", threads=threads)
    if os.environ["MODE"] == "spawn":
        made._reason = "the test wants it"
    made.start()
    return made

def answer(child):
    child.channel.settimeout(LIMIT)
    parts = []
    while part := child.channel.recv(65536):
        parts.append(part)
    child.channel.close()
    return json.loads(b"".join(parts))["value"] if parts else None

def start(launcher, task=None, **environment):
    return launcher.spawn(task or {}, environment=environment, log="log.txt")

def ended(launcher, count=1):
    exits = []
    while len(exits) < count:
        assert select.select(launcher.filenos(), [], [], LIMIT)[0], "no exit was reported"
        exits += launcher.exits()
    return exits

def attempt(launcher, task=None, **environment):
    child = start(launcher, task, **environment)
    value = answer(child)
    [(pid, code)] = ended(launcher)
    assert pid == child.pid
    return value, code

def value(function, task=None, **options):
    with contextlib.closing(launcher(function, **options)) as made:
        got, code = attempt(made, task)
    assert code == 0, Path("log.txt").read_text()
    return got

def wait_for_end(pidfds):
    for descriptor in pidfds:
        assert select.select([descriptor], [], [], LIMIT)[0], "a process is still there"
        os.close(descriptor)

def children(pid):
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found[int(entry)] = fields[0]
    return found

def template(launcher):
    return launcher._template.process.pid

def show(**values):
    print(json.dumps(values), flush=True)
""".replace("LIMIT", str(LIMIT))


class Scripts:
    """A folder of scripts and the interpreter that runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("harness.py", HARNESS)

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.write_text(dedent(source))
        return path

    def command(self, source: str) -> list[str]:
        return [sys.executable, "-W", "error", str(self.write("script.py", "from harness import *\n" + dedent(source)))]

    def options(self, mode: str) -> dict[str, Any]:
        return {
            "cwd": self.folder,
            "env": os.environ | {"PYTHONPATH": str(SOURCE), "MODE": mode},
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }

    def run(self, source: str, mode: str = "fork") -> dict[str, Any]:
        return self.result(subprocess.run(self.command(source), check=False, **self.options(mode)))

    def result(self, ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        assert ended.returncode == 0, ended.stderr + self.log()
        assert ended.stderr == ""
        return dict(json.loads(ended.stdout))

    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""
