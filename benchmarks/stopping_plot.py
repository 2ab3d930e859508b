"""The plot docs/stopping.svg: epochs saved against loss given up, one point a rule, of any run and of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol


class Point(Protocol):
    """What is drawn of a rule."""

    @property
    def rule(self) -> str:
        """Its name."""

    @property
    def group(self) -> str:
        """Its kind."""

    @property
    def saved(self) -> float:
        """Share of the epochs."""

    @property
    def given_up(self) -> float:
        """Of any run, in spreads."""

    @property
    def given_up_by_best(self) -> float:
        """Of the runs of the best tenth, in spreads."""


# Marker and colour of a group, and where its labels stand: points from the marker, and which end of the text.
LOOKS = {
    "patience": ("o", "#1f77b4", (-6, 2), "right"), "patience of others": ("o", "#9ecae1", (6, -8), "left"),
    "flat": ("s", "#8c564b", (6, 3), "left"), "Prechelt": ("^", "#2ca02c", (6, 3), "left"),
    "forecast": ("D", "#d62728", (6, -6), "left"), "epoch limit": ("x", "#7f7f7f", (-6, 3), "right"),
}  # fmt: skip
LINEAR_BELOW = 0.001  # spreads
PANELS: dict[str, Callable[[Any], float]] = {
    "any run": lambda one: one.given_up,
    "the best tenth of the runs": lambda one: one.given_up_by_best,
}


def front(points: Sequence[Point], given_up: Callable[[Any], float] = PANELS["any run"]) -> list[Point]:
    """Those of which no other saves as much and gives up less, or gives up as little and saves more."""

    def beats(other: Point, one: Point) -> bool:
        ahead, behind = (other.saved, -given_up(other)), (one.saved, -given_up(one))
        return ahead != behind and ahead[0] >= behind[0] and ahead[1] >= behind[1]

    return sorted((one for one in points if not any(beats(other, one) for other in points)), key=lambda one: one.saved)


def comparable(points: Sequence[Point]) -> list[Point]:
    """Those that were measured on all families, thus not what needs a training curve; of equals the first."""
    found: dict[tuple[float, float], Point] = {}
    for one in points:
        if "training=" not in one.rule:
            found.setdefault((one.saved, one.given_up), one)
    return list(found.values())


def draw(path: Path, points: Sequence[Point]) -> None:
    """Write the plot; the same points give the same file."""
    import matplotlib as mpl  # noqa: PLC0415 -- only whoever draws needs it
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = comparable(points)
    with mpl.rc_context({"svg.hashsalt": "foretell", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
        for axes, (title, given_up) in zip(panels, PANELS.items(), strict=True):
            _panel(axes, shown, given_up)
            axes.set_title(title)
            axes.set_xlabel("epochs saved, per cent")
        panels[0].set_ylabel("loss given up, spreads of the task")
        panels[0].legend(loc="lower right", frameon=False)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata)
        plt.close(figure)


def short(rule: str) -> str:
    """A name for the plot."""
    inner = rule.removeprefix("PatienceLike(")
    return inner.removesuffix("()") if inner == rule else inner.removesuffix(")").replace("'", "")


def _panel(axes: Any, shown: Sequence[Point], given_up: Callable[[Any], float]) -> None:
    best = front(shown, given_up)
    axes.plot([100 * one.saved for one in best], [given_up(one) for one in best], color="#cccccc", zorder=1)
    for group, (marker, color, offset, end) in LOOKS.items():
        own = [(100 * one.saved, given_up(one), short(one.rule)) for one in shown if one.group == group]
        axes.scatter([x for x, _, _ in own], [y for _, y, _ in own], marker=marker, color=color, label=group, zorder=2,
                     clip_on=False)  # fmt: skip
        for x, y, name in own:
            axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", ha=end, fontsize=7,
                          rotation=25 if marker == "^" else 0)  # fmt: skip
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
    axes.set_ylim(bottom=0)
    axes.set_xlim(-8, 80)
