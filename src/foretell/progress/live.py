"""A block at the bottom of the terminal that shows the study as it runs; what is printed meanwhile scrolls above it."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from foretell.budget import Budget
from foretell.events import Event
from foretell.progress._text import Outlook, View, counted, number, saving, seconds, sparkline, summary, view
from foretell.record import Record
from foretell.trial import Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Live", "View", "render", "view"]

_PERIOD = 0.25  # seconds between two pictures
_ROWS_OF_REST = 15  # lines of the block besides its trainings: title, limits, best, counts, decisions
_NARROW, _WIDE = 76, 100  # columns, below which the table leaves the grant out, or what is foretold
_BAR = 24
_WIDTHS = {"trial": 5, "last": 6, "best": 6}


@final
class Live:
    """Shows a running study on a terminal, at most four times a second, and leaves a summary.

    Args:
        console: of rich; made for stderr if left out.
        clock: seconds that pass for the person who looks.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._live: Any = None
        self._name, self._record, self._budget = "", None, Budget()  # type: str, Record | None, Budget
        self._drawn = 0.0

    def begin(self, name: str, record: Record, budget: Budget) -> None:
        """Open the block."""
        from rich.console import Console  # noqa: PLC0415 -- loads on first use
        from rich.live import Live as Block  # noqa: PLC0415 -- as above

        self._name, self._record, self._budget = name, record, budget
        console = self._console = self._console or Console(stderr=True)
        # Only what would go to the terminal anyway may scroll above the block: data in a pipe stays in the pipe.
        self._live = Block(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._live.start()
        atexit.register(self._close)
        self._draw(None)

    def happened(self, event: Event) -> None:
        """Draw anew if it is time: a training in this process gives no tick before its end."""
        self._refresh(None)

    def tick(self, now: float) -> None:
        """Draw anew if it is time."""
        self._refresh(now)

    def end(self, verdict: Verdict) -> None:
        """Put the summary in the place of the block."""
        if self._live is None or self._record is None:
            return
        self._live.update(render(view(self._name, self._record, self._budget, verdict=verdict), self._width()))
        self._close()

    def _refresh(self, now: float | None) -> None:
        if self._live is not None and self._clock() - self._drawn >= _PERIOD:
            self._draw(now)

    def _draw(self, now: float | None) -> None:
        assert self._record is not None
        assert self._console is not None
        self._drawn = self._clock()
        rows = max(1, min(8, self._console.height - _ROWS_OF_REST))
        shown = view(self._name, self._record, self._budget, now=now, most_running=rows)
        self._live.update(render(shown, self._width()), refresh=True)

    def _width(self) -> int:
        return 80 if self._console is None else self._console.width

    def _close(self) -> None:
        atexit.unregister(self._close)
        live, self._live = self._live, None
        if live is not None:
            live.stop()  # shows the cursor again


def render(shown: View, width: int = 80) -> RenderableType:
    """A view as something that rich can print.

    Args:
        shown: the view.
        width: columns of the terminal; a table below 76 leaves out the grant, below 100 what is foretold.
    """
    from rich.console import Group  # noqa: PLC0415 -- loads on first use
    from rich.text import Text  # noqa: PLC0415 -- as above

    title = Text.assemble((shown.name, "bold"), "  ", shown.aim, no_wrap=True, overflow="ellipsis")
    if shown.verdict is not None:
        return Group(title, _labelled(summary(shown), fold=True))
    parts: list[RenderableType] = [title]
    if shown.limits:
        parts.append(_limits(shown, width))
    if shown.running:
        parts.append(_trainings(shown, width))
    if shown.more:
        parts.append(Text(f"       +{shown.more} more", style="dim"))
    facts = [] if shown.limits else [("time", seconds(shown.seconds))]
    if shown.best is not None:
        best = shown.best
        facts.append(("best", f"{number(best.value)}  trial {best.number} ({best.state})  {best.params}"))
    facts.append(("trials", counted(shown.counts)))
    if shown.trained < shown.planned:
        facts.append(("epochs", saving(shown)))
    parts.append(_labelled(facts))
    parts += [Text(text, style="dim", no_wrap=True, overflow="ellipsis") for text in shown.decisions]
    return Group(*parts)


def _limits(shown: View, width: int) -> RenderableType:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415 -- loads on first use
    from rich.table import Table  # noqa: PLC0415 -- as above

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=6, no_wrap=True)
    grid.add_column(width=max(8, min(_BAR, width - 50)))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    for limit in shown.limits:
        left = "" if limit.left is None else f"{'' if limit.what == 'time' else '≈ '}{seconds(limit.left)} left"
        grid.add_row(limit.what, ProgressBar(total=limit.limit, completed=limit.spent), str(limit), left)
    return grid


def _trainings(shown: View, width: int) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 -- loads on first use

    wide = width >= _NARROW
    table = Table(box=None, padding=(0, 2, 0, 0) if wide else (0, 1, 0, 0), header_style="dim", pad_edge=False)
    foretells = width >= _WIDE
    titles = (
        ["trial", "epoch", "until", "of", "last", "best", "time"] if wide else ["trial", "epoch", "of", "last", "best"]
    )
    titles += ["comes to", "chance"] if foretells else []
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True, min_width=_WIDTHS.get(title, 4))
    table.add_column("curve" if wide else "", no_wrap=True)
    for run in shown.running:
        of, until = (_or_dash(run.horizon), _or_dash(run.until if run.until is not None else run.horizon))
        span = seconds(run.seconds)
        values = [number(run.last), number(run.best)]
        row = [str(run.number), str(run.step), *([until] if wide else []), of, *values, *([span] if wide else [])]
        table.add_row(*row, *(_foretold(run.outlook) if foretells else []), sparkline(run.curve))
    return table


def _foretold(outlook: Outlook | None) -> tuple[str, str]:
    """The interval of nine in ten, the better end first, and the chance to beat the best value so far."""
    if outlook is None:
        return "–", "–"
    return f"{number(outlook.better)} … {number(outlook.worse)}", f"{outlook.chance:.0%}"


def _labelled(lines: list[tuple[str, str]], *, fold: bool = False) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 -- loads on first use
    from rich.text import Text  # noqa: PLC0415 -- as above

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=6, style="dim", no_wrap=True)
    grid.add_column()  # it alone may shrink
    for label, text in lines:
        grid.add_row(label, Text(text, no_wrap=not fold, overflow="fold" if fold else "ellipsis"))
    return grid


def _or_dash(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
