"""The binding for Keras, on two back ends: Keras has one in a process, so each is tested in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import IN_CI, ROOT, dev_packages


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_keras_keeps_its_promises_on(backend: str, tmp_path: Path) -> None:
    missing = [name for name in ("keras", backend) if importlib.util.find_spec(name) is None]
    if missing and not (IN_CI and set(missing) <= dev_packages()):
        pytest.skip(f"{missing[0]} is not installed: `pip install {missing[0]}` to run this test")
    settings = {"KERAS_BACKEND": backend, "KERAS_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/integrations/keras_bindings.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"\b[4-9]\d passed", done.stdout), done.stdout
