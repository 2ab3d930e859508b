"""Tells a network file system, on which locks and shared memory between processes cannot be trusted."""

from __future__ import annotations

from pathlib import Path

from foretell.errors import StoreOnNetwork

_NETWORK = frozenset(
    (
        "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "panfs",
        "smb3", "smbfs", "wekafs",
    )
)  # fmt: skip


def mount_table() -> str:
    """The mounted file systems as Linux lists them; empty where there is no such list."""
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def file_system(path: Path) -> str:
    """Type of the file system that a path lies on, or would lie on; empty if that cannot be told."""
    parts, best, kind = path.resolve().parts, 0, ""
    for line in mount_table().splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(_unquoted(fields[1])).parts
        if len(mounted) >= best and parts[: len(mounted)] == mounted:  # of equals the later one hides the earlier
            best, kind = len(mounted), fields[2]
    return kind


def refuse_network(folder: Path) -> None:
    """Refuse a folder on a network file system.

    Raises:
        StoreOnNetwork: it lies on one.
    """
    kind = file_system(folder)
    if kind in _NETWORK:
        raise StoreOnNetwork(
            f"{folder} lies on a network file system ({kind}), where the locks that keep a store whole cannot be "
            f"trusted. Choose a folder on a local disk of this machine, and copy it over when the study is done."
        )


def _unquoted(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
