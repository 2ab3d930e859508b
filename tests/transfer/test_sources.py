"""Where weights come from, the source as a parameter of a search, and what it was worth."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import foretell as ft
from foretell import transfer
from foretell.errors import StudyError
from foretell.transfer import TransferError
from foretell.transfer.comparison import Savings
from tests.conftest import needs

WEIGHTS = {"0.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "0.bias": np.ones(4, np.float32)} | {
    "2.weight": np.full((2, 4), 0.5, np.float32),
    "2.bias": np.zeros(2, np.float32),
}


def network() -> Any:
    torch = needs("torch")
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def train(run: ft.Run) -> None:
    torch = needs("torch")
    torch.manual_seed(run.seed)
    model = network()
    run.track(model=model)
    for epoch in run.epochs(3):
        with torch.no_grad():
            model[0].bias.fill_(run.params["x"])
            model[2].bias.fill_(epoch)
        run.report(loss=abs(run.params["x"] - 0.5) + 1 / (1 + epoch))


def study(store: Path, **settings: Any) -> ft.Study:
    made = ft.Study(
        ft.Space(x=ft.Float(0, 1), constraints=lambda params: params["x"] < 2),
        minimize="loss", store=store, name="cnn", sampler="random_search", scheduler="full", **settings,
    )  # fmt: skip
    return made.run(train, "5 trials", workers=0, progress="none")


# --- trials ----------------------------------------------------------------------------------------------------------


def test_a_trial_of_an_earlier_study_is_a_source(tmp_path: Path) -> None:
    made = study(tmp_path, keep_checkpoints=5)
    trial = made.trials[3]
    made.close()
    found = transfer.source("study:cnn#3", store=tmp_path)
    assert (found.name, found.kind, found.value, found.step) == ("study:cnn#3", "trial", trial.value, 3)
    assert found.params == trial.params
    assert np.array_equal(found.arrays["0.bias"], np.full(4, trial.params["x"], np.float32))
    target = network()
    report = transfer.map_weights(found, target)
    assert report.counts == {"exact": 4} and float(target[2].bias[0].detach()) == 2.0


def test_without_a_number_the_winner_is_meant_and_the_store_may_be_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(tmp_path)
    best = made.best
    made.close()
    monkeypatch.setenv("FORETELL_STORE", str(tmp_path))
    assert transfer.source("study:cnn").params == best.params
    target = network()
    assert transfer.map_weights(f"study:cnn#{best.number}", target).weights.share == 1.0
    assert float(target[0].bias[0].detach()) == pytest.approx(best.params["x"])


def test_an_open_store_and_a_trial_itself_will_do(tmp_path: Path) -> None:
    made = study(tmp_path)
    best = made.best
    assert best.checkpoint is not None
    by_store = transfer.source("study:cnn", store=made._store).arrays
    for other in (transfer.source(best).arrays, transfer.source(best.checkpoint).arrays):
        assert other.keys() == by_store.keys() and all(np.array_equal(other[name], by_store[name]) for name in other)
    assert transfer.source(best.checkpoint).step == 3
    made.close()


def test_a_trial_that_is_not_there_or_left_nothing_is_told(tmp_path: Path) -> None:
    made = study(tmp_path)
    loser = next(trial.number for trial in made.trials if trial.checkpoint is None)
    made.close()
    with pytest.raises(TransferError, match="keep_checkpoints=4"):
        transfer.source(f"study:cnn#{loser}", store=tmp_path)
    with pytest.raises(TransferError, match="trials 0 to 4"):
        transfer.source("study:cnn#9", store=tmp_path)
    with pytest.raises(StudyError, match="cnn"):
        transfer.source("study:rnn#1", store=tmp_path)
    with pytest.raises(TransferError, match="There is no store in"):
        transfer.source("study:cnn#1", store=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(TransferError, match="no address"):
        transfer.source("study:cnn#best", store=tmp_path)
    with pytest.raises(TransferError, match="store= is where a study is looked for"):
        transfer.source(WEIGHTS, store=tmp_path)


# --- files and models ------------------------------------------------------------------------------------------------


def test_files_and_folders_are_sources(tmp_path: Path) -> None:
    half = {name: array for name, array in WEIGHTS.items() if name.startswith("0")}
    rest = {name: array for name, array in WEIGHTS.items() if name not in half}
    save_file(half, tmp_path / "a.safetensors")
    save_file(rest, tmp_path / "b.safetensors")
    folder = transfer.source(tmp_path)
    assert folder.kind == "folder" and folder.arrays.keys() == WEIGHTS.keys()
    one = transfer.source(str(tmp_path / "a.safetensors"))
    assert one.kind == "file" and np.array_equal(one.arrays["0.weight"], WEIGHTS["0.weight"])
    assert transfer.source(one) is one
    target = network()
    assert transfer.map_weights(folder, target).weights.share == 1.0


def test_a_torch_file_is_read_without_running_it(tmp_path: Path) -> None:
    torch = needs("torch")
    torch.save({name: torch.tensor(array) for name, array in WEIGHTS.items()}, tmp_path / "good.pt")
    assert np.array_equal(transfer.source(tmp_path / "good.pt").arrays["2.weight"], WEIGHTS["2.weight"])

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "run",)

    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(TransferError, match="could run code"):
        transfer.source(tmp_path / "bad.pt")
    assert not (tmp_path / "run").exists()


def test_models_and_dicts_are_sources() -> None:
    model = network()
    found = transfer.source(model)
    assert found.kind == "model" and found.weights is model
    assert found.arrays["0.weight"].shape == (4, 3)
    assert transfer.source(model.state_dict()).arrays.keys() == transfer.source(WEIGHTS).arrays.keys()
    with pytest.raises(TransferError, match="is no source"):
        transfer.source(3)


# --- the source as a parameter ---------------------------------------------------------------------------------------


def ranked() -> Any:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    good = rng.normal(size=(80, 4)) + 3 * labels[:, None]
    return transfer.rank({"good": good, "bad": rng.normal(size=(80, 4)), "worse": rng.normal(size=(80, 4))}, labels)


def test_the_ranking_is_the_prior_of_the_choice_and_none_is_an_option() -> None:
    shortlist = ranked()
    choice = transfer.choice(shortlist, top=2)
    assert choice.options == (*shortlist.top(2), "none") and choice.options[0] == "good"
    assert choice.weights is not None
    gap = shortlist.ranked[0].score - shortlist.ranked[1].score
    hopes = [1 / (1 + math.exp(-gap)), 1 - 1 / (1 + math.exp(-gap))]
    assert choice.weights == pytest.approx([0.5 * hopes[0] + 0.25, 0.5 * hopes[1] + 0.25, 0.5])
    drawn = [ft.Space(source=choice).sample(np.random.default_rng(seed))["source"] for seed in range(300)]
    assert drawn.count("good") > 1.3 * drawn.count(shortlist.ranked[1].name) > 0
    assert 60 < drawn.count("none") < 140
    assert transfer.choice(shortlist, none=False).options == tuple(shortlist.top(3))


def test_parameters_of_a_source_exist_where_there_is_one() -> None:
    choice = transfer.choice({"a": 1.0, "b": 0.0}, params={"frozen": ft.Float(0, 0.75)})
    space = ft.Space(source=choice, lr=ft.Float(1e-4, 1, log=True))
    assert ft.Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    for seed in range(20):
        params = space.sample(np.random.default_rng(seed))
        assert ("frozen" in params) == (params["source"] != "none")


@pytest.mark.parametrize(
    ("scores", "settings", "words"),
    [
        ({}, {}, "leaves none"),
        ({"a": 1.0}, {"top": 0}, "leaves none"),
        ({"none": 1.0}, {}, "another name"),
        ({"a": math.nan}, {}, "not finite"),
    ],
)
def test_a_choice_of_nothing_is_refused(scores: Any, settings: Any, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        transfer.choice(scores, **settings)


# --- what it was worth -----------------------------------------------------------------------------------------------

LOSSES = {
    ("none", 0): [0.9, 0.8, 0.6, 0.5],
    ("none", 1): [0.9, 0.45, 0.7, 0.7],
    ("near", 0): [0.5, 0.4, 0.4, 0.4],
    ("far", 0): [0.95, 0.9, 0.85, 0.8],
    ("far", 1): [0.9, 0.9, 0.9, 0.9],
}


def searched(trials: Any = tuple(LOSSES), metric: str = "minimize") -> Savings:
    sign = 1 if metric == "minimize" else -1

    def replayed(run: ft.Run) -> None:
        for epoch in run.epochs(4):
            run.report(value=sign * LOSSES[run.params["source"], run.params["number"]][epoch])

    space = ft.Space(source=ft.Choice(["none", "near", "far"]), number=ft.Choice([0, 1]))
    made = ft.Study(space, **{metric: "value"}, scheduler="full")  # type: ignore[arg-type]
    for source, number in trials:
        made.enqueue({"source": source, "number": number})
    made.run(replayed, f"{len(trials)} trials", workers=0, progress="none")
    return transfer.savings(made)


@pytest.mark.parametrize("metric", ["minimize", "maximize"])
def test_each_source_is_compared_at_equal_epochs(metric: str) -> None:
    sign = 1 if metric == "minimize" else -1
    found = searched(metric=metric)
    scratch, (near, far) = found.scratch, found.arms
    assert (scratch.trials, scratch.epochs, scratch.best, scratch.reached) == (2, 8, 0.45 * sign, 6)
    assert (scratch.alone, near.alone, far.alone) == (2, 2, None)
    assert (near.source, near.trials, near.epochs, near.equal_epochs) == ("near", 1, 4, 4)
    assert (near.value, near.scratch, near.reached) == (0.4 * sign, 0.5 * sign, 2)
    assert (far.source, far.epochs, far.equal_epochs, far.value, far.scratch, far.reached) == (
        *("far", 8, 8), 0.8 * sign, 0.45 * sign, None,
    )  # fmt: skip
    assert (found.together.epochs, found.together.reached, found.saved) == (12, 2, 4)
    assert "transfer saved 4 epochs of the search: 2 instead of 6" in str(found)
    assert "Its best trial alone took 2, the best from scratch 2" in str(found)


def test_what_transfer_cost_is_said_as_well() -> None:
    found = searched([("far", 0), ("far", 1), ("near", 0), ("none", 0)])
    assert (
        found.saved == 4 - 9
        and "transfer cost 5 epochs of the search: 9 instead of 4. Its best trial alone took 1, the best from"
        in str(found)
    )
    never = searched([("none", 0), ("far", 0)])
    assert never.saved is None and "Transfer never reached the best value from scratch (0.5) in 4 epochs." in str(never)
    assert "Nothing was trained from scratch" in str(searched([("near", 0)]))
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["saved"] == -5 and [arm["source"] for arm in plain["arms"]] == ["near", "far"]


def test_a_study_without_sources_is_told(tmp_path: Path) -> None:
    made = study(tmp_path)
    with pytest.raises(TransferError, match="say which one is the source"):
        transfer.savings(made)
    made.close()
