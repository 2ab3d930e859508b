"""Named points at which a test can have the process killed, to prove that nothing acknowledged is ever lost.

The environment variable FORETELL_FAULT names the point, "store-before-commit", or the count-th pass through it,
"store-before-commit:3". It is read once, on import.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _COUNT = os.environ.get("FORETELL_FAULT", "").partition(":")
_passes = int(_COUNT or 1) if _NAME else 0


def fault(name: str) -> None:
    """Die here without any warning, if this is the point and the pass that the environment names."""
    if _NAME:
        _pass(name)


def _pass(name: str) -> None:
    global _passes  # noqa: PLW0603 -- a count of the process, like the environment it comes from
    if name == _NAME:
        _passes -= 1
        if _passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
