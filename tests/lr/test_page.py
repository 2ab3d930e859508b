"""The page docs/learning_rate.md: its code runs, and its numbers are those of the schedules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from foretell import _family
from foretell.lr import warmup

PAGE = (Path(__file__).parents[2] / "docs" / "learning_rate.md").read_text()
ROWS = re.findall(r"^\| `(\w+\(.*\))` \| ([\d.e |-]+) \|$", PAGE, re.MULTILINE)
AT = [0, 5, 10, 20, 30, 39, 40, 50]
MEMBERS = {name: _family.load("lr", name) for name in _family.names("lr")}
NAMES: dict[str, Any] = {"warmup": warmup} | {member.__name__: member for member in MEMBERS.values()}


def test_the_page_shows_every_schedule() -> None:
    assert f"| at step | {' | '.join(map(str, AT))} |" in PAGE
    shown = {row[0].partition("(")[0] for row in ROWS}
    assert shown >= {kind.__name__ for kind in NAMES.values() if hasattr(kind, "area")}
    for name, member in MEMBERS.items():
        assert f"| `{name}` |" in PAGE or f"**{member.__name__}**" in PAGE or f"`{member.__name__}(" in PAGE


@pytest.mark.parametrize(("code", "numbers"), ROWS)
def test_the_numbers_are_right(code: str, numbers: str) -> None:
    schedule = eval(code, dict(NAMES))
    assert numbers.split(" | ") == [f"{schedule(step):.3g}" for step in AT]


def test_the_code_of_the_page_runs() -> None:
    space: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, space)
    assert space["rates"][5] == 0.1 and space["searched"].steps == 40
