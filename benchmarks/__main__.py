"""Run the benchmarks: `python -m benchmarks [part ...] [--quick] [--data PATH] [--json FILE]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.figures import Figure, Part, Settings, table

SPEED = ("ask_tell", "report", "durability", "startup", "replay", "processes", "memory")
METHODS = ("curves", "stopping", "search", "full_fidelity", "bindings")  # take long, or need every framework
PARTS = (*SPEED, *METHODS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a part could not be measured. A goal that is missed is no failure: it is printed."""
    options = _parsed(arguments)
    settings = Settings(options.quick, options.data)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {_load()}")
    if options.quick:
        print("--quick: this shows that everything runs; the figures mean little.")
    found: dict[str, list[Figure]] = {}
    failures = 0
    for name in options.parts or SPEED:
        part = cast(Part, importlib.import_module(f"benchmarks.{name}"))
        print(f"\n{name}: {part.TITLE}", flush=True)
        figures = found[name] = []
        begun = time.monotonic()
        try:
            for figure in part.measure(settings):
                figures.append(figure)
                print(".", end="", file=sys.stderr, flush=True)
        except Exception as error:
            failures += 1
            print(f"failed: {type(error).__name__}: {error}")
        print(file=sys.stderr)
        print(table(figures))
        print(f"{time.monotonic() - begun:.0f} s, load {_load()}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(_plain(found), indent=1))
    return 1 if failures else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; the first {len(SPEED)} if left out"
    )
    parser.add_argument("--quick", action="store_true", help="only see whether everything runs")
    parser.add_argument("--data", type=Path, help="folder of recorded trainings ($FORETELL_DATA, else ../shared/data)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    return options


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _plain(found: dict[str, list[Figure]]) -> dict[str, Any]:
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {**machine, "parts": {name: [figure.to_json() for figure in figures] for name, figures in found.items()}}


if __name__ == "__main__":
    sys.exit(main())
