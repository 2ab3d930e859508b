"""Weights between torch and Keras, and from Keras to Keras. The cases run in one process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, needs


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    needs("torch")
    needs("keras")
    environment = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("keras_cases.py")
    ran = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def outcome(results: dict[str, Any], name: str) -> dict[str, Any]:
    result: dict[str, Any] = results[name]
    assert "failed" not in result, result["failed"]
    return result


EXACT = [
    "cnn_to_keras", "cnn_to_torch", "transposed_convolution", "one_dimension", "lstm", "gru", "simple_rnn",
    "stacked_lstm", "bidirectional_gru", "attention", "session_counter", "keras_names_that_mislead", "separable",
    "widen_keras",
]  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_the_outputs_agree(results: dict[str, Any], name: str) -> None:
    result = outcome(results, name)
    assert result["error"] < 1e-5
    assert result.get("share", 1.0) == result.get("back", 1.0) == result.get("buffers", 1.0) == 1.0


def test_a_transposed_layout_is_said_to_be_one(results: dict[str, Any]) -> None:
    assert outcome(results, "cnn_to_keras")["statuses"] == ["renamed", "transposed"]
    assert outcome(results, "transposed_convolution")["status"] == "transposed"
    assert outcome(results, "attention")["fused"] == 3


def test_there_and_back_is_the_same_bit_for_bit(results: dict[str, Any]) -> None:
    assert outcome(results, "round_trip") == {"same": True, "mean": True}


def test_the_counter_of_the_session_is_no_name(results: dict[str, Any]) -> None:
    first, second = outcome(results, "session_counter")["names"]
    assert first != second


def test_a_gru_that_computes_something_else_is_refused(results: dict[str, Any]) -> None:
    assert outcome(results, "gru_without_reset_after")["statuses"] == ["refused"]


def test_what_equal_weights_do_not_make_equal_is_noted(results: dict[str, Any]) -> None:
    assert "padding 'same'" in outcome(results, "same_padding_with_stride")["notes"][0]
    assert "eps is 0.001 here and 1e-05" in outcome(results, "batchnorm_epsilon")["notes"][0]
    assert outcome(results, "cnn_to_torch")["notes"] == []


def test_an_application_of_keras_for_other_classes(results: dict[str, Any]) -> None:
    assert outcome(results, "application") == {"backbone": 1.0, "head": ["initialised"] * 2, "buffers": 1.0}


def test_an_order_that_the_graph_does_not_tell_is_noted(results: dict[str, Any]) -> None:
    result = outcome(results, "unknown_order_of_a_flattened_map")
    assert result["error"] > 1e-3 and "check it with a probe" in result["notes"][0]


def test_keras_models_are_ranked_by_what_their_head_reads(results: dict[str, Any]) -> None:
    result = outcome(results, "ranking_of_keras_models")
    assert result["first"] == ["net"] and result["difference"] < 1e-5 and result["leep"] < 0


def test_a_model_without_weights(results: dict[str, Any]) -> None:
    assert "has no weights yet" in outcome(results, "unbuilt")["message"]
