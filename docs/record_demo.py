"""Make docs/demo.svg: the demo as a terminal shows it, two thirds through its budget and at its end.

python docs/record_demo.py
"""

from __future__ import annotations

import contextlib
import io
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import foretell as ft
from foretell.progress.live import render, view

ROOT = Path(__file__).parent.parent
WIDTH = 112


class Recorder:
    """A watcher that keeps the picture of one moment, and that of the end."""

    def __init__(self) -> None:
        self.middle: Any = None
        self.end_picture: Any = None

    def begin(self, name: str, record: Any, budget: Any) -> None:
        self._about = name, record, budget

    def happened(self, event: object) -> None:
        pass

    def tick(self, now: float) -> None:
        name, record, budget = self._about
        busy = len(record.running) == 2 and all(record.steps[trial] > 2 for trial in record.running)
        if self.middle is None and record.seconds(now) > 0.6 * budget.seconds and busy:
            self.middle = render(view(name, record, budget, now=now), WIDTH)

    def end(self, verdict: ft.Verdict) -> None:
        name, record, budget = self._about
        self.end_picture = render(view(name, record, budget, verdict=verdict), WIDTH)


def main() -> None:
    """Run the demo, watch it, and draw what a terminal would have shown."""
    shutil.rmtree("studies", ignore_errors=True)
    recorder, plain = Recorder(), ft.minimize
    ft.minimize = lambda *given, **options: plain(*given, **options, progress=recorder)
    sys.argv[1:] = []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "examples" / "digits_cnn.py"), run_name="__main__")
    shown = printed.getvalue().replace(str(Path.cwd()) + "/", "")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make demo", style="bold"))
    console.print(recorder.middle)
    console.print(Text("\n... and at the end:\n", style="dim"))
    console.print(recorder.end_picture)
    console.print(Text(shown.rstrip()))
    console.save_svg(str(ROOT / "docs" / "demo.svg"), title="foretell")


if __name__ == "__main__":
    main()
