"""A real notebook kernel: functions and classes of its cells reach the training processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import needs

# Driven from a process of its own: what warns in the notebook's libraries is not ours.
DRIVER = """
import sys
from jupyter_client.manager import start_new_kernel

cells = sys.stdin.read().split("#%%")
manager, client = start_new_kernel(kernel_name="python3")
try:
    for cell in cells:
        reply = client.execute_interactive(cell, timeout=120)
        if reply["content"]["status"] != "ok":
            sys.exit("\\n".join(reply["content"]["traceback"]))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""
CELLS = """
import numpy as np
import foretell as ft
class Line:
    def __init__(self, rate):
        self.w, self.rate = np.zeros(1), rate
    def step(self):
        self.w += self.rate * (3 - self.w)
#%%
target = 3.0
def train(run):
    line = Line(run.params["rate"])
    run.track(w=line.w)
    for epoch in run.epochs(9):
        line.step()
        run.report(loss=(line.w[0] - target) ** 2)
#%%
study = ft.minimize(train, "loss", ft.Space(rate=ft.Float(0.01, 1)), "12 trials", workers=2, progress="none")
#%%
print("trials", len(study.trials), "best", round(study.best.value, 3), study.best.step)
"""


def test_a_notebook_kernel(tmp_path: Path) -> None:
    needs("ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=CELLS, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trials 12 best 0.0 9" in done.stdout
