"""Documents that cannot fall behind the code: errors, commands and links."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from foretell import errors

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXCEPTIONS = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
}


def error_sections() -> dict[str, str]:
    """The text under each heading of docs/errors.md that is the name of a class."""
    parts = re.split(r"^#+ `(\w+)`$", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)
    assert len(parts[1::2]) == len(set(parts[1::2])), "docs/errors.md explains an error twice: keep one section."
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_explains_every_error_and_no_other() -> None:
    assert sorted(error_sections()) == sorted(EXCEPTIONS)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_each_error_has_a_cause_and_a_cure(name: str) -> None:
    section = error_sections()[name]
    assert re.search(r"^\*\*Cause\.\*\* \S", section, re.MULTILINE)
    assert re.search(r"^\*\*Cure\.\*\* \S", section, re.MULTILINE)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_the_tree_of_errors_is_drawn_whole(name: str) -> None:
    assert errors.__doc__
    assert re.search(rf"\b{name}\b", errors.__doc__)


def commands(text: str) -> list[str]:
    """The lines of a page or script, without comments."""
    return [line.partition("#")[0].strip() for line in text.splitlines()]


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_everybody_tests_by_the_same_command(file: str) -> None:
    assert "make test" in commands((ROOT / file).read_text())


def test_ci_runs_nothing_else() -> None:
    setup = {"", "set -euo pipefail", 'cd "$(dirname "$0")/.."', "export CI=true"}
    assert [line for line in commands((ROOT / ".ci" / "run").read_text()) if line not in setup] == ["make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    inside = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert not [target for target in inside if not (page.parent / target).exists()]
