"""A full disk, and several processes on one study."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foretell import events
from foretell.stores import Entry
from foretell.trial import State
from tests.faults import SOURCE, Bench

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and waits for process descriptors"),
]


def failed(log: list[Entry]) -> list[events.Ended]:
    return [e for _, _, e in log if isinstance(e, events.Ended) and e.state is State.FAILED]


def run_out_of_space(bench: Bench, reports: int) -> tuple[int, str]:
    """From some report on, the coordinator can write no more, as a quota would have it; how the session ended."""
    session, heard = bench.start(), 0
    for line in bench.listen(session):
        heard += line.step is not None
        if heard == reports:
            size = (bench.settings.store / "store.db-wal").stat().st_size
            resource.prlimit(session.pid, resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
            break
    return bench.finish(session)


@pytest.mark.parametrize("reports", [1, 8])
def test_files_that_may_not_grow(tmp_path: Path, reports: int) -> None:
    with Bench(tmp_path, budget="12 trials") as bench:
        code, words = run_out_of_space(bench, reports)
        assert code == 1
        assert "foretell.errors.StoreFull: No space is left to write" in words
        assert "run the same command again: everything up to entry" in words
        assert not failed(bench.check())
        bench.complete()


def test_space_is_freed_and_the_same_study_goes_on_in_the_same_process(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="12 trials", again=True) as bench:
        code, words = run_out_of_space(bench, 8)
        assert code == 0, words
        log = bench.check()
        assert sum(isinstance(entry.event, events.SessionStarted) for entry in log) == 2, "the disk was never full"
        assert not failed(log)
        bench.complete()


def test_a_training_that_finds_no_room_for_its_checkpoint(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="10 trials", train="cramped", retries=0) as bench:
        code, words = bench.finish(bench.start())
        assert code == 1
        assert re.search(r"foretell\.errors\.StoreFull: .* Free some space and run the same command again", words), (
            words
        )
        assert not failed(bench.check()), "that the disk is full is no fault of a configuration"
        bench.settings = bench.settings._replace(train="steady")
        bench.complete()


def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system of 3 MB, mounted where only this study sees it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=3m,mode=700 none {shlex.quote(str(disk))} || exit 77"
    call = f"from {__name__} import *; fill_the_disk(Path({str(tmp_path)!r}))"
    script = f"{mount}; exec {shlex.join([sys.executable, '-c', call])}"
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=os.environ | {"PYTHONPATH": f"{SOURCE}:{SOURCE.parent}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode == 77 or "unshare failed" in ended.stderr:
        pytest.skip("this machine lets nobody mount a file system of its own")
    assert ended.returncode == 0, ended.stderr


def fill_the_disk(folder: Path) -> None:
    disk = folder / "disk"
    with Bench(folder, budget="12 trials", place=str(disk), retries=0) as bench:
        session, heard = bench.start(), 0
        for line in bench.listen(session):
            heard += line.step is not None
            if heard == 6:
                with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(4096))
        code, words = bench.finish(session)
        assert code == 1
        assert "foretell.errors.StoreFull: No space is left to write" in words, words
        (disk / "ballast").unlink()
        assert not failed(bench.check()), "that the disk is full is no fault of a configuration"
        bench.complete()


def test_a_second_process_on_the_same_study(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="4 trials", train="hanging", scheduler="full") as bench:
        first = bench.start()
        assert "hang" in (line.what for line in bench.listen(first))
        second = bench.start()
        code = second.wait()
        _, words = second.communicate()
        assert code == 1
        assert f"foretell.errors.StoreBusy: Study 'study' is being run by process {first.pid} on this machine" in words
        first.kill()
        assert bench.finish(first)[0] == -signal.SIGKILL
        bench.check()
        bench.settings = bench.settings._replace(train="steady")
        code, words = bench.finish(bench.start())
        assert code == 0, words


def test_ask_and_tell_from_several_processes(tmp_path: Path) -> None:
    with Bench(tmp_path, calls=25) as bench:
        sessions = [bench.start() for _ in range(4)]
        for session in sessions:
            assert session.stdin is not None
            session.stdin.write("\n")
            session.stdin.flush()
        numbers = []
        for session in sessions:
            printed, words = session.communicate()
            assert session.returncode == 0, words
            numbers += [int(line) for line in printed.splitlines()]
        assert sorted(numbers) == list(range(100))
        log = bench.check()
        for kind in (events.Created, events.Started, events.Reported, events.Ended):
            assert sorted(e.trial for _, _, e in log if type(e) is kind) == list(range(100))
        created = {e.trial: e.params["lr"] for _, _, e in log if isinstance(e, events.Created)}
        told = {e.trial: e.metrics["val_loss"] for _, _, e in log if isinstance(e, events.Reported)}
        assert told == created
        assert len(set(created.values())) == 100
