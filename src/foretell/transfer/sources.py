"""Weights to start from, wherever they are: a trial of an earlier study, a file, a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from foretell.checkpoint import Checkpoint
from foretell.stores import Store
from foretell.transfer import TransferError, _files, _keras, _torch, _trials
from foretell.transfer._files import Source
from foretell.trial import Trial

__all__ = ["source", "Source"]


def source(given: Any, *, store: str | Path | Store | None = None) -> Source:
    """Find the weights of a source, read them, and say what is known of them; `map_weights` takes the result.

    Args:
        given: "study:cnn#12" (trial 12 of the study "cnn") or "study:cnn" (its winner), a `Trial` or a `Checkpoint`;
            the path of a *.safetensors, of a folder of them, or of a torch file that holds nothing but tensors; a
            torch module, a Keras model, or a dict of arrays or tensors.
        store: where the study is: its folder or a `Store`; None takes the folder in FORETELL_STORE, or "studies".

    Raises:
        TransferError: there is none, it left no weights, or reading it could run code.
        StudyError: there is no such study.
    """
    if isinstance(given, Source):
        return given
    if _trials.is_trial(given):
        return _of_trial(_trials.find(given, store), given)
    if store is not None:
        raise TransferError("store= is where a study is looked for: give the source as in 'study:cnn#12'.")
    if isinstance(given, Trial):
        return _of_trial(given, str(given))
    if _keras.is_model(given) or _torch.is_module(given):
        return Source(type(given).__name__, "model", given)
    arrays = _files.arrays(given)
    if arrays is None:
        raise TransferError(
            f"A {type(given).__name__} is no source: give 'study:name#number', a path, a model, or a dict of arrays."
        )
    if isinstance(given, Checkpoint):
        return Source(str(given.folder), "checkpoint", arrays, step=given.step)
    if isinstance(given, str | os.PathLike):
        return Source(str(given), "folder" if Path(given).is_dir() else "file", arrays)
    return Source("arrays", "arrays", arrays)


def _of_trial(trial: Trial, name: str) -> Source:
    arrays = _files.arrays(trial)
    assert arrays is not None and trial.checkpoint is not None, "a trial without weights was refused"
    return Source(name, "trial", arrays, dict(trial.params), trial.value, trial.checkpoint.step)
