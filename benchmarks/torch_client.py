"""A training function that needs torch and says when its first line ran."""

from __future__ import annotations

import time

import torch

from foretell import Run


def first_line(run: Run) -> None:
    """Reports the moment of its first line, on the clock that all processes share."""
    begun = time.monotonic()
    assert torch.__version__
    run.report(begun=begun)
