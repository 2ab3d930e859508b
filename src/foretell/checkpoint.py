"""Checkpoints: the state of a training, copied at the end of an epoch, written durably, and put back bit for bit.

A folder holds `tensors.safetensors` (all arrays), `state.json` (everything else, and how the arrays belong together)
and `manifest.json` (size and SHA-256 of both). It is staged beside its place, made durable, and renamed; the digest of
its manifest, kept by the store, is what makes it valid. Nothing is read from it before sizes and hashes are right, and
nothing in it can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from foretell._faults import fault
from foretell.adapters import Array, Kind, Tree, active, find
from foretell.adapters._codec import Encoder, Entry, as_numpy, decode, read_arrays, write_arrays
from foretell.adapters._trees import Memo, freeze, leaves, thaw
from foretell.errors import CheckpointError, did_you_mean

FORMAT = "foretell.checkpoint"
VERSION = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A training's state in host memory; nothing that trains on can change it.

    Args:
        objects: frozen tree of each tracked object, by its name.
        rng: frozen tree of the global random numbers, by framework.
    """

    objects: Mapping[str, Tree] = field(repr=False)
    rng: Mapping[str, Tree] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Memory its arrays take, in bytes; arrays that share memory count once."""
        found = leaves([*self.objects.values(), *self.rng.values()])
        return sum({id(leaf): leaf.data.nbytes for leaf in found if isinstance(leaf, Array)}.values())


@final
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk.

    Args:
        folder: where it lies.
        digest: SHA-256 of its manifest, 64 hexadecimal digits.
        step: step of the training at which it was made.
    """

    folder: Path
    digest: str
    step: int

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint in a folder, once its manifest and its state are found intact.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        path = Path(folder)
        files, digest = _read_manifest(path, None)
        step = _read_state(path, files)["progress"].get("step", 0)
        return cls(path, digest, step)

    def read(self) -> tuple[Snapshot, dict[str, Any]]:
        """The snapshot and the progress written with it.

        Raises:
            CheckpointError: it is missing, torn or changed.
        """
        return read(self.folder, self.digest)

    def restore(self, /, **objects: Any) -> None:
        """Put the saved state back into the objects given; other saved objects and global random numbers stay out.

        Raises:
            CheckpointError: no object of such a name was saved, it does not fit, or the checkpoint is damaged.
        """
        saved, _ = self.read()
        for name in objects:
            if name not in saved.objects:
                raise CheckpointError(f"{self.folder} has no object {name!r}. {did_you_mean(name, saved.objects)}")
        restore(objects, Snapshot({name: saved.objects[name] for name in objects}, {}), rng=False)

    @property
    def place(self) -> tuple[str, str, int]:
        """Folder, digest and step, as plain data for another process."""
        return str(self.folder), self.digest, self.step

    @property
    def how_to_load(self) -> str:
        """One line of code that puts it back into objects of the names that were tracked."""
        files, _ = _read_manifest(self.folder, self.digest)
        names = _read_state(self.folder, files)["objects"]
        given = ", ".join(f"{name}={name}" for name in names)
        if not all(name.isidentifier() for name in names):
            given = "**{" + ", ".join(f"{name!r}: ..." for name in names) + "}"
        return f"ft.Checkpoint.open({str(self.folder)!r}).restore({given})"


def unsupported(objects: Mapping[str, Any]) -> dict[str, str]:
    """The objects whose state cannot be captured, each with the reason and the cure: such a run cannot be paused."""
    reasons = {}
    for name, value in objects.items():
        try:
            freeze(_state(name, value), name, {}, copy=False)
        except CheckpointError as error:
            reasons[name] = str(error)
    return reasons


def capture(objects: Mapping[str, Any], *, rng: bool = True) -> Snapshot:
    """Copy the state of all objects, and of the global random numbers, to host memory.

    Args:
        objects: what the user tracks, by name.
        rng: also the global random numbers of Python, NumPy and every imported framework.

    Raises:
        CheckpointError: an object's state cannot be captured; `unsupported` tells beforehand.
    """
    memo: Memo = {}
    trees = {name: freeze(_state(name, value), name, memo) for name, value in objects.items()}
    states = {adapter.name: adapter.rng_state() for adapter in active()} if rng else {}
    given = {name: state for name, state in states.items() if state is not None}
    return Snapshot(trees, {name: freeze(state, f"random numbers of {name}", memo) for name, state in given.items()})


def restore(
    objects: Mapping[str, Any], snapshot: Snapshot, kind: Kind = "resume", *, rng: bool = True
) -> tuple[str, ...]:
    """Put a snapshot back into freshly built objects.

    Args:
        objects: what the user tracks now, by name; exactly the names of the snapshot.
        snapshot: what was captured or read.
        kind: "resume" restores everything; "inherit" arrays and optimiser moments only, so that rates, weight decay,
            schedule positions and random numbers stay those of the child.
        rng: when resuming, also the global random numbers.

    Returns:
        What was left alone and might be missed, in words, one sentence each.

    Raises:
        CheckpointError: names or shapes do not fit; when shapes do not fit, earlier objects are already restored.
    """
    here, there = set(objects) - set(snapshot.objects), set(snapshot.objects) - set(objects)
    if here or there:
        raise CheckpointError(
            f"The tracked objects are not those of the checkpoint: only tracked now {sorted(here)}, only in the "
            f"checkpoint {sorted(there)}. Pass run.track the same names as when it was made."
        )
    memo: dict[int, Any] = {}
    trees = {name: thaw(snapshot.objects[name], memo) for name in objects}
    notes = []
    for name, value in objects.items():
        with _explained(name, "could not be restored", " Build it as it was when the checkpoint was made."):
            note = _adapter(name, value).restore(value, trees[name], kind)
        if note is not None:
            notes.append(f"{name}: {note}.")
    if rng and kind == "resume":
        notes.extend(_restore_rng(snapshot, memo))
    return tuple(notes)


def write(folder: Path, snapshot: Snapshot, progress: Mapping[str, Any]) -> str:
    """Write a snapshot durably, all or nothing.

    Args:
        folder: where to; it must not exist yet.
        snapshot: what to write.
        progress: JSON values to keep with it; `step` is what `Checkpoint.open` shows.

    Returns:
        SHA-256 of the manifest; whoever reads it passes it on, and so knows that it is this checkpoint.

    Raises:
        CheckpointError: the folder exists or cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise CheckpointError(f"{folder} exists already: a checkpoint is never overwritten, give each its own name.")
    encoder = Encoder()
    state = {
        "format": FORMAT,
        "version": VERSION,
        "objects": {name: encoder.encode(tree, name) for name, tree in snapshot.objects.items()},
        "rng": {name: encoder.encode(tree, f"~rng/{name}") for name, tree in snapshot.rng.items()},
        "progress": encoder.encode(freeze(dict(progress), "progress", {}), "~progress"),
        "aliases": encoder.aliases,
    }
    with _staged(folder) as staging:
        write_arrays(staging / TENSORS, encoder.arrays)
        (staging / STATE).write_text(json.dumps(state, allow_nan=False), encoding="ascii")
        files = {name: _fingerprint(staging / name) for name in (TENSORS, STATE)}
        manifest = json.dumps({"format": FORMAT, "version": VERSION, "files": files}, indent=1).encode("ascii")
        (staging / MANIFEST).write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def read(folder: Path, digest: str | None = None) -> tuple[Snapshot, dict[str, Any]]:
    """Read a checkpoint after its sizes and hashes were found right.

    Args:
        folder: where it lies.
        digest: SHA-256 of its manifest, as `write` returned it; None trusts the manifest that is there.

    Raises:
        CheckpointError: it is missing, torn, changed, or written by a newer foretell; the message names the file.
    """
    folder = Path(folder)
    files, _ = _read_manifest(folder, digest)
    state, tensors = _read_state(folder, files), _read_file(folder, TENSORS, files)
    found: dict[str, Array] = {}

    def array(entry: Entry) -> Array:  # the same object for the same key, so that what was tied is tied again
        key = entry["~array"]
        if key not in found:
            found[key] = Array(entry["source"], entry["dtype"], tuple(entry["shape"]), arrays[key])
        return found[key]

    with _explained(str(folder), "has sound files but cannot be understood"):
        arrays = read_arrays(tensors)
        parts = {part: {n: decode(tree, array) for n, tree in state[part].items()} for part in ("objects", "rng")}
        return Snapshot(parts["objects"], parts["rng"]), decode(state["progress"], array)


def load_tensors(folder: Path, digest: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of all objects as NumPy arrays, tied ones under every name; bfloat16 becomes float32, without loss.

    Args:
        folder: where the checkpoint lies.
        digest: SHA-256 of its manifest; None trusts the manifest that is there.

    Raises:
        CheckpointError: it is missing, torn or changed, or holds element types that NumPy lacks.
    """
    snapshot, _ = read(folder, digest)
    encoder = Encoder()
    for name, tree in snapshot.objects.items():
        encoder.encode(tree, name)
    with _explained(str(folder), "has arrays that NumPy cannot hold"):
        arrays = {key: as_numpy(array) for key, array in encoder.arrays.items()}
    return arrays | {alias: arrays[key] for alias, key in encoder.aliases.items()}


def _adapter(name: str, value: object) -> Any:
    adapter = find(value)
    if adapter is None:
        raise CheckpointError(
            f"{name} is of type {type(value).__qualname__}, which has no state_dict and load_state_dict, and is no "
            f"array, dict, list or generator: give it both methods, or keep what changes in a dict and track that."
        )
    return adapter


def _state(name: str, value: object) -> Tree:
    adapter = _adapter(name, value)
    with _explained(name, "did not give its state"):
        return adapter.state(value)


def _restore_rng(snapshot: Snapshot, memo: dict[int, Any]) -> Iterator[str]:
    adapters = {adapter.name: adapter for adapter in active()}
    for name, tree in snapshot.rng.items():
        if name not in adapters:
            yield f"The random numbers of {name} were not restored, as it is not imported: import it before run.track."
            continue
        with _explained(f"The random numbers of {name}", "could not be restored"):
            note = adapters[name].set_rng_state(thaw(tree, memo))
        if note is not None:
            yield f"Random numbers: {note}."


@contextlib.contextmanager
def _explained(name: str, failure: str, cure: str = "") -> Iterator[None]:
    """Foreign code may raise anything; what reaches the user is a CheckpointError that says where."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{name} {failure} ({what}).{cure}") from error


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A new folder beside the target, renamed to it and durable if all goes well, and gone if anything fails."""
    staging = folder.with_name(f"{folder.name}.staging-{secrets.token_hex(8)}")
    try:
        _make_folder(staging)
        yield staging
        for path in (*staging.iterdir(), staging):
            _sync(path)
        fault("checkpoint-before-rename")
        os.rename(staging, folder)
        fault("checkpoint-after-rename")
        _sync(folder.parent)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        raise CheckpointError(
            f"The checkpoint {folder} could not be written ({type(error).__name__}: {error}). See that its disk has "
            f"space and its folder can be written to; earlier checkpoints are untouched."
        ) from error


def _make_folder(folder: Path) -> None:
    if not folder.parent.is_dir():
        _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows has no handle for a folder to flush; NTFS journals the names itself.
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}, so this checkpoint is not used. Restore an earlier one, or delete its folder and train again."
    )


def _read_manifest(folder: Path, digest: str | None) -> tuple[dict[str, Any], str]:
    """The fingerprints of the files, and the digest found."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise _damaged(path, f"is not the one that was written: its SHA-256 is {found}, not {digest}")
    try:
        manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise _damaged(path, f"is of the format {manifest['format']!r}, not {FORMAT!r}")
        if manifest["version"] > VERSION:
            raise CheckpointError(
                f"{path} has version {manifest['version']}, and this foretell reads up to {VERSION}: "
                "install the newer foretell that wrote it."
            )
        files: dict[str, Any] = {name: manifest["files"][name] for name in (TENSORS, STATE)}
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"is no manifest ({type(error).__name__}: {error})") from error
    return files, found


def _read_file(folder: Path, name: str, files: Mapping[str, Any]) -> bytes:
    """The content of a file whose size and hash are those of the manifest; these very bytes are then used."""
    path = folder / name
    try:
        size = path.stat().st_size
        if size != files[name]["size"]:
            raise _damaged(path, f"has {size} bytes, and {files[name]['size']} were written")
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
        raise _damaged(path, "has other content than was written")
    return content


def _read_state(folder: Path, files: Mapping[str, Any]) -> dict[str, Any]:
    content = _read_file(folder, STATE, files)
    with _explained(str(folder / STATE), "cannot be understood"):
        state = json.loads(content)
        return {part: state[part] for part in ("objects", "rng", "progress")}
