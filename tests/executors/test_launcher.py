"""The launcher, seen from scripts as users write them: each test runs one in a fresh interpreter."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executors import LIMIT, Scripts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(params=["fork", "spawn"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_a_script_needs_no_main_guard(scripts: Scripts, mode: str) -> None:
    source = """
        factor = 2
        class Model:
            def fit(self, x): return factor * x
        def train(task): return Model().fit(task["x"])
        os.mkdir("only_once")
        show(got=value(train, {"x": 21}))
    """
    assert scripts.run(source, mode) == {"got": 42}


def test_an_imported_script_needs_no_main_guard_either(scripts: Scripts) -> None:
    scripts.write(
        "experiment.py",
        """
        from harness import *
        shift = 1
        def train(task): return task["x"] + shift
        show(got=value(train, {"x": 41}))
        """,
    )
    assert scripts.run("import experiment") == {"got": 42}


def test_a_module_that_trains_when_imported_is_told_the_cure(scripts: Scripts, mode: str) -> None:
    scripts.write(
        "experiment.py",
        """
        from harness import *
        def train(task): return 42
        print(json.dumps({"inside": value(train)}), flush=True)
        """,
    )
    source = """
        import experiment
        with contextlib.closing(launcher(experiment.train)) as made:
            child = start(made)
            with child.channel as channel:
                channel.settimeout(60)
                told = channel.recv(65536).decode()
        Path("told.txt").write_text(told)
    """
    assert scripts.run(source, mode) == {"inside": 42}
    assert (
        "Put that call into a function, or under `if __name__ == '__main__':`"
        in (scripts.folder / "told.txt").read_text()
    )


def test_a_script_from_standard_input(scripts: Scripts) -> None:
    source = "from harness import *\ndef train(task): return 42\nshow(got=value(train))\n"
    ended = subprocess.run([sys.executable, "-"], input=source, check=False, **scripts.options("fork"))
    assert scripts.result(ended) == {"got": 42}


def test_closures_and_lambdas(scripts: Scripts, mode: str) -> None:
    source = """
        def closure(shift): return lambda task: task["x"] + shift
        show(closure=value(closure(1), {"x": 41}), lam=value(lambda task: task["x"] * 2, {"x": 21}))
    """
    assert scripts.run(source, mode) == {"closure": 42, "lam": 42}


def test_cells_of_an_interactive_interpreter(scripts: Scripts) -> None:
    source = """
        import code
        shell = code.InteractiveInterpreter({"__name__": "__main__"})
        for cell in ("import harness", "base = 40", "def add(x): return base + x",
                     "def train(task): return add(task['x'])", "harness.show(got=harness.value(train, {'x': 2}))"):
            shell.runsource(cell, symbol="exec")
    """
    assert scripts.run(source) == {"got": 42}


def test_a_large_array_is_shared_and_private_when_written(scripts: Scripts, mode: str) -> None:
    source = """
        import numpy as np
        data = np.ones(12_500_000)
        def copied():
            status = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1e3
        def train(task):
            before = copied()
            total = data.sum()
            read = copied()
            data[:] = 2
            return dict(total=total, first=data[0], reading=read - before, writing=copied() - read)
        with contextlib.closing(launcher(train)) as made:
            first, second = attempt(made)[0], attempt(made)[0]
        show(first=first, second=second, parent=data.sum())
    """
    got = scripts.run(source, mode)
    assert got["parent"] == 12_500_000
    for child in (got["first"], got["second"]):
        assert child["total"] == 12_500_000
        assert child["first"] == 2
        assert child["reading"] < 10, "reading 100 MB copied them"
        assert child["writing"] > 90, "the measure does not see a copy"


@needs("torch")
def test_a_parent_that_has_computed_in_parallel(scripts: Scripts) -> None:
    source = """
        import torch
        torch.set_num_threads(2)
        weights = torch.ones(600, 600)
        parent = (weights @ weights).sum().item()
        def train(task): return (weights @ weights).sum().item()
        with contextlib.closing(launcher(train, threads=2)) as made:
            show(mode=made.mode, equal=attempt(made)[0] == parent, tasks=len(os.listdir("/proc/self/task")))
    """
    got = scripts.run(source)
    assert got["tasks"] > 1, "the parent has no threads, so the test shows nothing"
    assert got["mode"] == "fork"
    assert got["equal"]


@needs("tensorflow")
def test_a_parent_that_has_fitted_a_keras_model(scripts: Scripts) -> None:
    source = """
        import keras, numpy as np
        def train(task):
            model = keras.Sequential([keras.layers.Dense(1)])
            model.compile(loss="mse")
            return len(model.fit(np.ones((8, 2)), np.ones(8), verbose=0).history["loss"])
        show(parent=train({}), child=value(train))
    """
    command = scripts.command(source)
    ended = subprocess.run([command[0], command[-1]], check=False, **scripts.options("fork"))
    assert json.loads(ended.stdout.splitlines()[-1]) == {"parent": 1, "child": 1}, ended.stderr


@needs("torch")
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_before_the_function_runs(scripts: Scripts, mode: str, threads: int) -> None:
    scripts.write("threadpoolctl.py", "raise ImportError('as if it were not installed')")
    source = f"""
        import numpy, torch
        def train(task):
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            return torch.get_num_threads(), *(int(os.environ[name]) for name in names)
        show(got=value(train, threads={threads}))
    """
    assert scripts.run(source, mode) == {"got": [threads] * 4}


@needs("threadpoolctl")
def test_threads_reach_libraries_that_the_template_has_loaded(scripts: Scripts) -> None:
    source = """
        import numpy, threadpoolctl
        def train(task): return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()], numpy.__name__
        show(got=value(train, threads=2)[0])
    """
    assert set(scripts.run(source)["got"]) == {2}


def test_the_environment_and_the_arguments_reach_the_function(scripts: Scripts, mode: str) -> None:
    source = """
        sys.argv.append("--fast")
        def train(task):
            default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            stdin = os.readlink("/proc/self/fd/0")
            leads = os.getsid(0) == os.getpid()
            return os.environ["CUDA_VISIBLE_DEVICES"], sys.argv[1:], os.getcwd(), default, stdin, leads
        with contextlib.closing(launcher(train)) as made:
            show(got=attempt(made, CUDA_VISIBLE_DEVICES="1")[0], parent=os.environ.get("CUDA_VISIBLE_DEVICES"))
    """
    got = scripts.run(source, mode)
    assert got == {"got": ["1", ["--fast"], str(scripts.folder), True, "/dev/null", True], "parent": None}


def test_a_module_that_starts_a_thread_is_not_forked(scripts: Scripts) -> None:
    scripts.write(
        "busy.py",
        """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        number = 41
        """,
    )
    source = """
        import busy
        def train(task): return busy.number + 1
        with contextlib.closing(launcher(train)) as made:
            show(got=attempt(made), mode=made.mode, reason=made.reason)
    """
    reason = "importing busy starts a thread, and a process with threads cannot be forked"
    assert scripts.run(source) == {"got": [42, 0], "mode": "spawn", "reason": reason}


def test_a_module_that_ends_the_template_is_left_to_the_trainings(scripts: Scripts) -> None:
    scripts.write("fatal.py", "import os\nif 'FATAL' in os.environ:\n    os._exit(7)\n")
    source = """
        import fatal
        os.environ["FATAL"] = "yes"
        def train(task): return fatal.__name__
        with contextlib.closing(launcher(train)) as made:
            show(code=attempt(made)[1], mode=made.mode, reason=made.reason)
    """
    told = {"code": 7, "mode": "spawn", "reason": "the template ended with 7 during its imports"}
    assert scripts.run(source) == told


def test_a_function_that_cannot_be_loaded_reaches_the_entry(scripts: Scripts, mode: str) -> None:
    source = """
        import types
        ghost = types.ModuleType("ghost")
        sys.modules["ghost"] = ghost
        exec("def train(task): return 1", ghost.__dict__)
        with contextlib.closing(launcher(ghost.train)) as made:
            child = start(made)
            with child.channel as channel:
                channel.settimeout(60)
                told = json.loads(channel.recv(65536))
            show(told=told, exits=[code for _, code in ended(made)])
    """
    got = scripts.run(source, mode)
    assert "No module named 'ghost'" in got["told"]["load_error"]
    assert got["exits"] == [0]


def test_what_cannot_be_sent_is_named_at_once(scripts: Scripts) -> None:
    source = """
        from foretell.errors import FunctionError
        log_file = open("out.txt", "w")
        def train(task): log_file.write("x")
        before = len(os.listdir("/proc/self/fd"))
        try:
            launcher(train)
        except FunctionError as error:
            show(message=str(error), leaked=len(os.listdir("/proc/self/fd")) - before)
        log_file.close()
    """
    got = scripts.run(source)
    assert "train uses the global 'log_file' (TextIOWrapper)" in got["message"]
    assert got["leaked"] == 0


def test_ends_are_told_apart(scripts: Scripts, mode: str) -> None:
    source = """
        def train(task):
            match task["how"]:
                case "_exit": os._exit(3)
                case "kill": os.kill(os.getpid(), signal.SIGKILL)
                case "raise": raise RuntimeError("as the test wants")
                case "exit": sys.exit(5)
                case "words": sys.exit("no more")
                case "segfault": os.kill(os.getpid(), signal.SIGSEGV)
            return 1
        hows = ("_exit", "kill", "raise", "exit", "words", "segfault", "return")
        with contextlib.closing(launcher(train)) as made:
            codes = {how: attempt(made, {"how": how})[1] for how in hows}
            show(codes=codes, code=attempt(made, {"how": "", "code": 9}))
    """
    got = scripts.run(source, mode)
    codes = {"_exit": 3, "kill": -9, "raise": 1, "exit": 5, "words": 1, "segfault": -11, "return": 0}
    assert got == {"codes": codes, "code": [1, 9]}
    assert "RuntimeError: as the test wants" in scripts.log()
    assert "no more" in scripts.log()
    assert "Fatal Python error: Segmentation fault" in scripts.log()


def test_all_output_is_appended_to_the_log(scripts: Scripts, mode: str) -> None:
    source = """
        import subprocess
        atexit.register(print, "not in a training")
        def train(task):
            atexit.register(print, "at exit", flush=False)
            print("printed é", task["i"])
            print("complained", file=sys.stderr)
            os.write(1, b"written\\n")
            subprocess.run([sys.executable, "-c", "print('run')"], check=True)
            sys.stdout.write("unfinished line\\t")
        made = launcher(train)
        for i in range(2):
            assert attempt(made, {"i": i})[1] == 0
        made.close()
        atexit.unregister(print)
        show(done=True)
    """
    scripts.run(source, mode)
    lines = "printed é {}\ncomplained\nwritten\nrun\nunfinished line\tat exit\n"
    assert scripts.log() == lines.format(0) + lines.format(1)


def test_signals_reach_the_group_and_nothing_else(scripts: Scripts, mode: str) -> None:
    source = """
        import subprocess
        def train(task): return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid
        made = launcher(train, entry="block")
        first, second = start(made), start(made)
        grandchildren = [os.pidfd_open(answer(first)), os.pidfd_open(answer(second))]
        made.kill(first.pid, signal.SIGTERM)
        exits = ended(made)
        wait_for_end(grandchildren[:1])
        made.kill(first.pid, signal.SIGKILL)
        alive = not select.select(grandchildren[1:], [], [], 0)[0]
        made.kill(second.pid, signal.SIGINT)
        second_end = ended(made)
        wait_for_end(grandchildren[1:])
        made.close()
        show(first=exits == [(first.pid, -15)], alive=alive, second=second_end == [(second.pid, 1)])
    """
    assert scripts.run(source, mode) == {"first": True, "alive": True, "second": True}


def test_what_a_training_leaves_behind_ends_with_it(scripts: Scripts, mode: str) -> None:
    source = """
        import subprocess
        def train(task): return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid
        made = launcher(train, entry="leave")
        child = start(made)
        child.channel.settimeout(60)
        left = [os.pidfd_open(json.loads(child.channel.recv(4096))["value"])]
        child.channel.close()
        child_end = ended(made)
        wait_for_end(left)
        made.close()
        show(ended=child_end == [(child.pid, 0)])
    """
    assert scripts.run(source, mode) == {"ended": True}


def test_an_interrupt_does_not_end_the_template(scripts: Scripts) -> None:
    source = """
        made = launcher(lambda task: os.getppid())
        before = attempt(made)
        os.kill(template(made), signal.SIGINT)
        show(same=before == attempt(made))
        made.close()
    """
    assert scripts.run(source) == {"same": True}


@pytest.fixture
def parent(scripts: Scripts, mode: str) -> Iterator[subprocess.Popen[str]]:
    source = """
        import subprocess
        def train(task): return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid
        made = launcher(train, entry="block")
        both = [start(made), start(made)]
        if os.fork() == 0:  # holds everything open that its parent had open
            signal.pause()
        show(pids=[template(made), *(child.pid for child in both), *(answer(child) for child in both)],
             copy=next(iter(set(children(os.getpid())) - {template(made)})))
        signal.pause()
    """
    process = subprocess.Popen(scripts.command(source), **scripts.options(mode))
    yield process
    process.kill()
    process.communicate()


def test_nothing_outlives_a_killed_parent(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    told = json.loads(parent.stdout.readline())
    watched = [os.pidfd_open(pid) for pid in told["pids"]]
    copy = os.pidfd_open(told["copy"])
    assert not select.select(watched, [], [], 0)[0]
    parent.kill()
    parent.wait()
    try:
        for descriptor in watched:
            assert select.select([descriptor], [], [], LIMIT)[0], "a process outlived its parent"
    finally:
        signal.pidfd_send_signal(copy, signal.SIGKILL)
        for descriptor in (*watched, copy):
            os.close(descriptor)


def test_trainings_die_with_the_template_and_are_reported(scripts: Scripts, mode: str) -> None:
    source = """
        made = launcher(lambda task: 1, entry="block")
        both = [start(made), start(made)]
        watched = [os.pidfd_open(child.pid) for child in both]
        values = [answer(child) for child in both]
        os.kill(template(made), signal.SIGKILL)
        exits = ended(made, 2)
        wait_for_end(watched)
        again = start(made)
        answered = answer(again)
        os.kill(template(made), signal.SIGKILL)
        third = start(made)  # before anyone has noticed
        answer(third)
        exits_after = ended(made)
        made.kill(third.pid, signal.SIGTERM)
        last = ended(made)
        made.close()
        show(values=values, exits=sorted(exits) == sorted((child.pid, -9) for child in both), again=answered,
             after=exits_after == [(again.pid, -9)], last=last == [(third.pid, -15)])
    """
    assert scripts.run(source, mode) == {"values": [1, 1], "exits": True, "again": 1, "after": True, "last": True}


def test_nothing_leaks(scripts: Scripts, mode: str) -> None:
    source = """
        def count(pid): return len(os.listdir(f"/proc/{pid}/fd"))
        def train(task): return len(os.listdir("/proc/self/fd"))
        before = count("self")
        made = launcher(train)
        used = [attempt(made)[0]]
        counts = count("self"), count(template(made))
        used += [attempt(made)[0] for _ in range(20)]
        zombies = children(template(made)), [pid for pid, state in children(os.getpid()).items() if state == "Z"]
        same = counts == (count("self"), count(template(made)))
        made.close()
        made.close()
        show(same=same, zombies=zombies, closed=count("self") - before, used=len(set(used)), left=children(os.getpid()))
    """
    got = scripts.run(source, mode)
    assert got == {"same": True, "zombies": [{}, []], "closed": 0, "used": 1, "left": {}}


@pytest.mark.parametrize(("grace", "asked"), [(0.0, False), (LIMIT, True)])
def test_closing_ends_what_still_runs(scripts: Scripts, mode: str, grace: float, asked: bool) -> None:
    source = f"""
        def train(task): signal.signal(signal.SIGTERM, lambda *_: (print("asked"), sys.exit(0)))
        made = launcher(train, entry="block")
        child = start(made)
        watched = [os.pidfd_open(child.pid)]
        answer(child)
        made.close({grace})
        wait_for_end(watched)
        show(left=children(os.getpid()))
    """
    assert scripts.run(source, mode) == {"left": {}}
    assert scripts.log() == ("asked\n" if asked else "")


def test_closing_before_the_imports_are_done(scripts: Scripts) -> None:
    source = """
        made = launcher(lambda task: 1)
        watched = [os.pidfd_open(template(made))]
        assert made.exits() == []
        made.close()
        wait_for_end(watched)
        show(left=children(os.getpid()))
    """
    assert scripts.run(source) == {"left": {}}


@pytest.mark.parametrize("noticed_by", ["answer(start(made))", "made.exits()"])
def test_a_training_whose_start_was_interrupted_is_ended(scripts: Scripts, noticed_by: str) -> None:
    source = f"""
        import foretell.executors._launcher as module
        made = launcher(lambda task: signal.pause() if "deaf" in task else os.getpid(), entry="block")
        first = start(made)
        receive = module.receive
        def interrupted(control):
            module.receive = receive
            raise KeyboardInterrupt
        module.receive = interrupted
        with contextlib.suppress(KeyboardInterrupt):
            start(made, {{"deaf": True}})
        assert select.select(made.filenos()[1:], [], [], 60)[0]
        [unheld] = set(children(template(made))) - {{first.pid}}
        watched = [os.pidfd_open(unheld)]
        {noticed_by}
        wait_for_end(watched)
        last = start(made)
        show(right=[answer(first) == first.pid, answer(last) == last.pid], exits=made.exits())
        made.close()
    """
    assert scripts.run(source) == {"right": [True, True], "exits": []}
