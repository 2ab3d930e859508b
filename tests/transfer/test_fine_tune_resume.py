"""A fine-tuning that is paused anywhere goes on as if it had not been: bit for bit, across every unfreeze."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell.errors import CheckpointError
from foretell.transfer import FineTune, TransferError
from tests.conftest import needs
from tests.transfer.fine_tuning import EPOCHS, fine_tuned, loss, network, train_epoch

torch = needs("torch")

CASES: list[dict[str, Any]] = [
    {"lr": 0.02, "share": 0.4, "patience": 1},
    {"lr": 0.3, "policy": "gradual", "patience": 1, "share": 0.6, "l2_sp": 0.1, "norms": "train"},
    {"lr": 0.3, "policy": "gradual", "patience": 2, "share": 0.5, "restore_best": None},
]
_whole: dict[int, Any] = {}


def whole(case: int) -> Any:
    """The uninterrupted run."""
    if case not in _whole:
        with TemporaryDirectory() as folder:
            _whole[case] = fine_tuned(Path(folder), CASES[case], [])
    return _whole[case]


def moments(tune: Any) -> dict[str, Any]:
    found = tune.state_dict()["moments"]
    return {
        f"{name}/{key}": value for part in found.values() for name, one in part.items() for key, value in one.items()
    }


@settings(max_examples=12, deadline=None)
@given(case=st.sampled_from(range(len(CASES))), pauses=st.sets(st.integers(1, EPOCHS - 1), max_size=3))
def test_a_paused_run_equals_an_uninterrupted_one(case: int, pauses: set[int]) -> None:
    expected, expected_tune, losses = whole(case)
    with TemporaryDirectory() as folder:
        model, tune, found = fine_tuned(Path(folder), CASES[case], sorted(pauses))
    assert found == losses
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert tune.phase == expected_tune.phase and tune.rates == expected_tune.rates
    assert tune.decisions == expected_tune.decisions
    ours, theirs = moments(tune), moments(expected_tune)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_runs_that_are_compared_go_through_their_phases() -> None:
    assert [whole(case)[1].phases for case in range(3)] == [(0, 2), (0, 1, 2), (0, 1, 2)]
    assert [len(whole(case)[1].decisions) for case in (0, 1)] == [1, 2]
    assert all("restored" in verdict.reason for case in (0, 1) for verdict in whole(case)[1].decisions)


def test_in_a_study_that_pauses_and_resumes() -> None:
    def train(run: ft.Run) -> None:
        model = network()
        tune = FineTune(model, torch.optim.AdamW, lr=run.params["lr"], policy="gradual", patience=1)
        run.track(model=model, tune=tune)
        for _ in tune.epochs(run, 6):
            train_epoch(model, tune.optimizer)
            run.report(loss=loss(model))

    study = ft.minimize(
        train, "loss", ft.Space(lr=ft.Float(1e-4, 0.1, log=True)), "6 trials", workers=0, progress="none"
    )
    assert not study.record.errors and study.best.checkpoint is not None
    model = network()
    tune = FineTune(model, torch.optim.AdamW, lr=0.1, policy="gradual", patience=1)
    study.best.checkpoint.restore(model=model, tune=tune)
    assert loss(model) == pytest.approx(study.best.value) and tune.rates["9"] == study.best.params["lr"]


def test_moments_come_back_to_the_tensors_of_their_names() -> None:
    one, other = network(), network(1)
    first = FineTune(one, torch.optim.AdamW, lr=0.1, policy="all")
    second = FineTune(other, torch.optim.AdamW, lr=0.5, policy="all")
    train_epoch(one, first.optimizer)
    second.load_state_dict(first.state_dict())
    assert second.rates == first.rates
    for (name, mine), theirs in zip(other.named_parameters(), one.parameters(), strict=True):
        for key, value in first.optimizer.state[theirs].items():
            assert torch.equal(second.optimizer.state[mine][key], value), (name, key)
            assert second.optimizer.state[mine][key] is not value


def test_the_state_of_another_model_or_optimiser_is_refused() -> None:
    state = FineTune(network(), torch.optim.AdamW, lr=0.1, policy="gradual").state_dict()
    with pytest.raises(TransferError, match="with the same arguments"):
        FineTune(network(), torch.optim.AdamW, lr=0.1, frozen=1).load_state_dict(state)
    with pytest.raises(TransferError, match="take the same class"):
        FineTune(network(), torch.optim.SGD, lr=0.1, policy="gradual").load_state_dict(state)


def test_a_run_that_does_not_track_the_model_is_not_resumed(tmp_path: Path) -> None:
    def begin() -> tuple[Any, ft.Run]:
        tune = FineTune(network(), torch.optim.AdamW, lr=0.1)
        run = ft.Run(minimize="loss", folder=tmp_path, seed=1)
        run.track(tune=tune)
        return tune, run

    tune, run = begin()
    for epoch in tune.epochs(run, 4):
        run._keeper._saving = -1e9  # every epoch is saved
        train_epoch(tune.model, tune.optimizer)
        run.report(loss=1.0)
        if epoch == 2:
            run._link = None  # as a crash: nothing more is written
            break
    tune, run = begin()
    assert run.resumed
    with pytest.raises(TransferError, match=r"run\.track\(model=model, tune=tune\)"):
        next(iter(tune.epochs(run, 4)))


def test_a_child_inherits_moments_and_keeps_its_own_rates(tmp_path: Path) -> None:
    from foretell import checkpoint

    parent = FineTune(network(), torch.optim.AdamW, lr=0.1, policy="all")
    train_epoch(parent.model, parent.optimizer)
    snapshot = checkpoint.capture({"tune": parent}, rng=False)
    child = FineTune(network(), torch.optim.AdamW, lr=0.02, policy="all")
    checkpoint.restore({"tune": child}, snapshot, kind="inherit", rng=False)
    assert child.rates["9"] == 0.02 and moments(child).keys() == moments(parent).keys()
    stranger = FineTune(network(), torch.optim.SGD, lr=0.02, policy="all")
    checkpoint.restore({"tune": stranger}, snapshot, kind="inherit", rng=False)
    assert not moments(stranger)
    with pytest.raises(CheckpointError, match="take the same class"):
        checkpoint.restore({"tune": stranger}, snapshot, rng=False)
