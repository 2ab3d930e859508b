"""Ctrl-C once: everything is saved, then the interrupt goes on. Twice: now."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, final

from foretell.trial import Verdict

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM asks the study to close, the second raises at once.

    Does nothing outside the main thread, where Python cannot handle signals.

    Args:
        stop: called with the verdict that closes the study.
    """

    def __init__(self, stop: Callable[[Verdict], None]) -> None:
        self._stop = stop
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def raise_again(self) -> None:
        """After everything is saved: the interrupt goes on to whoever called.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM, with code 143.
        """
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt("the study was interrupted; everything is saved, so run it again to go on")
        if self._received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            raise SystemExit(128 + number) if number == signal.SIGTERM else KeyboardInterrupt
        self._received = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        print(f"\n{name}: saving what runs. Once more ends at once.", file=sys.stderr, flush=True)
        self._stop(Verdict("stop", "interrupt", f"interrupted by {name}"))
