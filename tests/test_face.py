"""What foretell costs before it is used: which packages are loaded, by whom, and when."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import foretell

PROBE = """
import json, sys
before = set(sys.modules)
{code}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(loaded - sys.stdlib_module_names)), file=sys.stderr)
"""
HELP = """
sys.argv = ["foretell", "--help"]
from foretell.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def loaded_by(code: str) -> set[str]:
    """The packages outside the standard library that a fresh interpreter loads for this code."""
    command = [sys.executable, "-W", "error", "-c", PROBE.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_probe_sees_what_is_loaded() -> None:
    assert loaded_by("import click.testing") == {"click"}


def test_importing_foretell_loads_numpy_at_most() -> None:
    assert loaded_by("import foretell") <= {"foretell", "numpy"}


def test_help_loads_click_alone() -> None:
    if importlib.util.find_spec("foretell.cli") is None:
        pytest.skip("there is no command line in this tree")
    assert loaded_by(HELP) <= {"foretell", "click"}


def test_every_exported_name_is_there() -> None:
    assert foretell.__all__
    assert not [name for name in foretell.__all__ if not hasattr(foretell, name)]


def test_what_is_exported_is_listed_by_dir() -> None:
    assert set(foretell.__all__) <= set(dir(foretell))


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert foretell.__version__ == project["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Studdy"):
        foretell.Studdy  # noqa: B018 - the access is what is tested
