"""Checkpoint folders: whole or not at all, readable by others, and free of code."""

from __future__ import annotations

import ast
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell
from foretell import checkpoint
from foretell.checkpoint import Checkpoint, capture, load_tensors, read, restore, write
from foretell.errors import CheckpointError

from .test_checkpoint import same, through_disk

SOURCE = Path(checkpoint.__file__).parent


def small(folder: Path) -> str:
    return write(folder, capture({"model": {"w": np.arange(6.0), "b": np.ones(2)}}), {"step": 4, "loss": float("inf")})


def test_every_truncation_flip_and_loss_is_found(tmp_path: Path) -> None:
    digest = small(tmp_path / "c")
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == ["manifest.json", "state.json", "tensors.safetensors"]
    for name in names:
        path = tmp_path / "c" / name
        content = path.read_bytes()
        size = len(content)
        spots = sorted({0, 1, size // 3, size // 2, size - 1})
        damaged = [content[:at] for at in spots] + [content + b"\0"]
        damaged += [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in spots]
        for torn in damaged:
            path.write_bytes(torn)
            with pytest.raises(CheckpointError, match=name):
                read(tmp_path / "c", digest)
        path.unlink()
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path / "c", digest)
        path.write_bytes(content)
        read(tmp_path / "c", digest)


def test_another_checkpoint_in_its_place_is_not_read(tmp_path: Path) -> None:
    digest = small(tmp_path / "c")
    write(tmp_path / "d", capture({"model": {"w": np.zeros(6)}}), {})
    os.rename(tmp_path / "c", tmp_path / "away")
    os.rename(tmp_path / "d", tmp_path / "c")
    read(tmp_path / "c")
    with pytest.raises(
        CheckpointError, match=r"manifest\.json is not the one that was written.*Restore an earlier one"
    ):
        read(tmp_path / "c", digest)


def test_files_that_agree_but_make_no_sense_are_checkpoint_errors(tmp_path: Path) -> None:
    small(tmp_path / "c")
    for state in (b"[]", b"{", b'{"objects": {"model": {"~array": "none"}}, "rng": {}, "progress": {}}'):
        (tmp_path / "c" / "state.json").write_bytes(state)
        files = {name: checkpoint._fingerprint(tmp_path / "c" / name) for name in ("state.json", "tensors.safetensors")}
        manifest = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "files": files}
        (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CheckpointError, match="cannot be understood"):
            read(tmp_path / "c")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": "other", "version": 1, "files": {}}, "format 'other'"),
        ({"format": checkpoint.FORMAT, "version": 99, "files": {}}, "install the newer foretell"),
        ({"format": checkpoint.FORMAT, "version": 1, "files": {"../../secret": {}}}, "is no manifest"),
        ([], "is no manifest"),
    ],
)
def test_foreign_manifests_are_refused(manifest: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    digest = small(tmp_path / "c")
    with pytest.raises(CheckpointError, match="exists already"):
        small(tmp_path / "c")
    read(tmp_path / "c", digest)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(CheckpointError, match="No space left"):
                small(tmp_path / "c")
        assert list(tmp_path.iterdir()) == []


def test_all_is_flushed_before_the_rename_and_the_name_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".staging-")[0])
        fsync(descriptor)

    def move(source: Any, target: Any) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", move)
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are listed in /proc on Linux only")
    small(tmp_path / "trials" / "c")
    assert calls[:2] == [tmp_path.name, "trials"]
    assert sorted(calls[2:5]) == ["manifest.json", "state.json", "tensors.safetensors"]
    assert calls[5:] == ["c", "rename", "trials"]


def test_tied_arrays_are_written_once_and_tied_again(tmp_path: Path) -> None:
    shared = np.arange(1000.0)
    snapshot = capture({"a": {"x": shared, "y": shared}, "b": {"z": shared}}, rng=False)
    back = through_disk(tmp_path / "c", snapshot)
    assert (tmp_path / "c" / "tensors.safetensors").stat().st_size < 1.1 * shared.nbytes
    assert json.loads((tmp_path / "c" / "state.json").read_text())["aliases"] == {"a/y": "a/x", "b/z": "a/x"}
    assert back.nbytes == shared.nbytes
    tensors = load_tensors(tmp_path / "c")
    assert sorted(tensors) == ["a/x", "a/y", "b/z"] and all(same(array, shared) for array in tensors.values())
    new: dict[str, Any] = {"a": {}, "b": {}}
    restore(new, back)
    assert new["a"]["x"] is new["a"]["y"] is new["b"]["z"]


def test_names_that_would_meet_in_the_file_are_kept_apart(tmp_path: Path) -> None:
    trees = {"a": {"b/c": np.ones(1), 1: np.ones(2), "1": np.ones(3)}, "a/b": {"c": np.ones(4)}}
    trees["__metadata__"] = np.ones(5)  # type: ignore[assignment]
    new: dict[str, Any] = {"a": {}, "a/b": {}, "__metadata__": np.zeros(5)}
    restore(new, through_disk(tmp_path / "c", capture(trees)))
    assert same(new, trees)


def test_other_programs_can_read_the_tensors(tmp_path: Path) -> None:
    numpy_reader = pytest.importorskip("safetensors.numpy")
    tree = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "z": np.array([1 + 2j], np.complex64),
        "e": np.zeros((0, 2)),
    }
    write(tmp_path / "c", capture({"m": tree}, rng=False), {})
    found = numpy_reader.load_file(tmp_path / "c" / "tensors.safetensors")
    np.testing.assert_array_equal(found["m/w"], tree["w"])
    assert found["m/z"].tolist() == [[1.0, 2.0]] and found["m/e"].shape == (0, 2)
    assert same(load_tensors(tmp_path / "c"), {f"m/{name}": array for name, array in tree.items()})


# ------------------------------------------------------------------------------------------------ Checkpoint


def test_a_checkpoint_is_opened_and_restored_by_name(tmp_path: Path) -> None:
    digest = write(tmp_path / "c", capture({"model": {"w": np.ones(2)}, "rng": np.random.default_rng(0)}), {"step": 4})
    opened = Checkpoint.open(str(tmp_path / "c"))
    assert opened == Checkpoint(tmp_path / "c", digest, 4)
    model, global_state = {"w": np.zeros(2)}, random.getstate()
    random.random()
    moved = random.getstate()
    opened.restore(model=model)
    assert model["w"].tolist() == [1, 1] and random.getstate() == moved != global_state
    with pytest.raises(CheckpointError, match=r"'modle'.*Did you mean 'model'"):
        opened.restore(modle=model)
    assert opened.read()[1] == {"step": 4}


def test_how_to_load_is_a_line_that_works(tmp_path: Path) -> None:
    write(tmp_path / "c", capture({"net": {"w": np.ones(2)}, "rng": np.random.default_rng(0)}), {"step": 4})
    line = Checkpoint.open(tmp_path / "c").how_to_load

    class ft:
        Checkpoint = checkpoint.Checkpoint

    net = {"w": np.zeros(2)}
    exec(line, {"ft": ft, "net": net, "rng": np.random.default_rng(1)})
    assert net["w"].tolist() == [1, 1]


# ------------------------------------------------------------------------------------------------ no code, no framework


MARKS: list[str] = []


def leave_mark() -> None:
    MARKS.append("unpickled")


class Canary:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return leave_mark, ()


def test_a_pickle_in_the_folder_is_never_loaded(tmp_path: Path) -> None:
    small(tmp_path / "c")
    bait = pickle.dumps(Canary())
    pickle.loads(bait)
    assert MARKS.pop() == "unpickled"
    for name in ("state.pkl", "model.pt", "__init__.py"):
        (tmp_path / "c" / name).write_bytes(bait)
    restore({"model": {}}, read(tmp_path / "c")[0])
    for name in ("state.json", "tensors.safetensors", "manifest.json"):
        content = (tmp_path / "c" / name).read_bytes()
        (tmp_path / "c" / name).write_bytes(bait)
        with pytest.raises(CheckpointError):
            read(tmp_path / "c")
        (tmp_path / "c" / name).write_bytes(content)
    assert not MARKS


def test_nothing_here_can_unpickle() -> None:
    files = [SOURCE / "checkpoint.py", *(SOURCE / "adapters").glob("*.py"), SOURCE / "integrations" / "torch.py"]
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "eval", "exec"}
    loaders = {("torch", "load"), ("torch", "save"), ("np", "load"), ("np", "save")}
    assert len(files) >= 5
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not forbidden & {alias.name.split(".")[0] for alias in node.names}, path
                assert (getattr(node, "module", None) or "").split(".")[0] not in forbidden, path
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in loaders, path
            elif isinstance(node, ast.Name):
                assert node.id not in forbidden, path


def test_frameworks_are_not_imported(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, pathlib\n"
        "from foretell.checkpoint import *\n"
        "from foretell import checkpoint as c\n"
        "s = c.capture({'w': {'a': np.ones(2)}}); f = pathlib.Path(sys.argv[1])\n"
        "c.restore({'w': {}}, c.read(f, c.write(f, s, {}))[0]); c.unsupported({'x': 3})\n"
        "frameworks = {'torch', 'keras', 'tensorflow', 'jax', 'sklearn', 'foretell.integrations.torch'}\n"
        "assert not frameworks & set(sys.modules)\n"
    )
    source = str(Path(next(iter(foretell.__path__))).parent)
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
