"""What all tests share: how hard Hypothesis looks, and what becomes of a test whose package is not installed."""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
IN_CI = bool(os.environ.get("CI"))
# Where the name to install is not the name to import.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "ignite": "pytorch-ignite", "xgboost": "xgboost-cpu"}

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if IN_CI else "dev")


def dev_packages() -> set[str]:
    """The distributions that CI installs: `pip install -e ".[dev,frameworks]"`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["dev"], *extras["frameworks"]]
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}


def needs(package: str) -> ModuleType:
    """The imported package; without it the test is skipped on a laptop, and fails in CI, which installs it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
    distribution = DISTRIBUTIONS.get(package, package)
    if IN_CI and distribution in dev_packages():
        pytest.fail(f"{distribution} is not installed, though an extra names it: CI runs every test it can.")
    pytest.skip(
        f"{distribution} is not installed: `pip install {distribution}` to run this test", allow_module_level=True
    )


@pytest.fixture(name="needs")
def _needs() -> Callable[[str], ModuleType]:
    return needs
