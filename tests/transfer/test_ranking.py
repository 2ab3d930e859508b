"""The ranking of sources: each score against an independent computation, its invariances, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from foretell import transfer
from foretell.transfer import TransferError
from foretell.transfer._probe import folds, nearest, ridge
from foretell.transfer._scores import h_score, leep, logme, nce, one_hot, spectrum, transrate
from foretell.transfer.ranking import Candidate, kendall
from tests.conftest import needs


def data(n: int = 60, d: int = 5, classes: int = 3, signal: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return signal * rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d)), labels


# --- LogME -----------------------------------------------------------------------------------------------------------


def dense_evidence(features: Any, target: Any) -> float:
    """The largest marginal likelihood of y with a free bias, by the density of a Gaussian in n - 1 dimensions."""
    n = len(features)
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, : n - 1]]))[0][:, 1:]
    y, gram = basis.T @ target, basis.T @ features @ features.T @ basis
    gram /= np.linalg.eigvalsh(gram).max()

    def loss(log_ratio: float) -> float:
        shape = np.eye(n - 1) + gram / math.exp(log_ratio)
        scale = float(y @ np.linalg.solve(shape, y)) / (n - 1)
        covariance = scale * shape
        quadratic = float(y @ np.linalg.solve(covariance, y))
        return 0.5 * (quadratic + float(np.linalg.slogdet(2 * math.pi * covariance)[1]))

    grid = np.linspace(math.log(1e-12), math.log(1e8), 60)
    best = grid[int(np.argmin([loss(x) for x in grid]))]
    found = minimize_scalar(loss, bounds=(best - 1, best + 1), method="bounded", options={"xatol": 1e-9})
    return -float(found.fun)


@pytest.mark.parametrize(("n", "d", "rank"), [(40, 3, 3), (30, 29, 29), (25, 60, 60), (40, 12, 4), (30, 80, 7)])
def test_logme_is_the_dense_marginal_likelihood(n: int, d: int, rank: int) -> None:
    rng = np.random.default_rng(n)
    features = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) + 3.0
    target = features[:, :2].sum(1) + 3.0 * rng.standard_normal(n)
    wanted = dense_evidence(features, target) / n
    assert logme(spectrum(features), target[:, None]) == pytest.approx(wanted, rel=1e-8, abs=1e-8)


def test_logme_of_classes_is_the_mean_over_classes() -> None:
    features, labels = data()
    wanted = np.mean([dense_evidence(features, column) for column in one_hot(labels).T]) / len(labels)
    assert logme(spectrum(features), one_hot(labels)) == pytest.approx(wanted, abs=1e-8)


def test_wide_noise_does_not_beat_narrow_signal() -> None:
    """The published iteration scores 600 columns of noise on 300 samples far above five informative ones."""
    features, labels = data(300, 5, 2, 0.5)
    noise = np.random.default_rng(1).standard_normal((300, 600))
    assert logme(spectrum(features), one_hot(labels)) > logme(spectrum(noise), one_hot(labels)) + 0.05


# --- the others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [4, 90])
def test_h_score_is_the_trace_with_the_covariance_of_ledoit_and_wolf(d: int) -> None:
    covariance = needs("sklearn.covariance")
    features, labels = data(50, d)
    shrunk, shrinkage = covariance.ledoit_wolf(features)
    centred = features - features.mean(0)
    between = sum(
        (labels == one).mean() * np.outer(mean := centred[labels == one].mean(0), mean) for one in np.unique(labels)
    )
    wanted = np.trace(np.linalg.solve(shrunk, (1 - shrinkage) * between))
    assert h_score(spectrum(features), labels) == pytest.approx(wanted, rel=1e-8)
    assert h_score(spectrum(spectrum(features).coordinates, width=d, fast=True), labels) == pytest.approx(
        wanted, rel=1e-8
    )


def test_leep_and_nce_by_their_sums() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 30), np.arange(30) % 3
    joint = np.array([[probabilities[labels == y, z].sum() / 30 for z in range(4)] for y in range(3)])
    given = joint / joint.sum(0)
    wanted = np.mean([math.log(sum(given[labels[i], z] * probabilities[i, z] for z in range(4))) for i in range(30)])
    assert leep(probabilities, labels) == pytest.approx(wanted)
    hard = probabilities.argmax(1)
    entropy = stats.entropy([np.mean((labels == y) & (hard == z)) for y in range(3) for z in range(4)])
    assert nce(probabilities, labels) == pytest.approx(stats.entropy(np.bincount(hard) / 30) - entropy)


def test_a_source_that_knows_the_classes_has_the_best_leep_and_nce() -> None:
    labels = np.arange(30) % 3
    assert leep(one_hot(labels), labels) == nce(one_hot(labels), labels) == 0.0
    useless = np.full((30, 3), 1 / 3)
    assert leep(useless, labels) == pytest.approx(-math.log(3)) and nce(useless, labels) == pytest.approx(-math.log(3))


def test_transrate_by_its_determinants() -> None:
    features, labels = data(40, 3)
    z = features - features.mean(0)
    z /= np.sqrt((z**2).mean())

    def rate(part: Any) -> float:
        return 0.5 * float(np.linalg.slogdet(np.eye(3) + part.T @ part / (len(part) * 1e-4))[1])

    wanted = rate(z) - sum((labels == one).mean() * rate(z[labels == one]) for one in range(3))
    assert transrate(spectrum(features), labels) == pytest.approx(wanted, rel=1e-9)
    assert transrate(spectrum(features, fast=True), labels) == pytest.approx(wanted, rel=1e-9)


SCORES = {
    "logme": lambda features, labels: logme(spectrum(features), one_hot(labels)),
    "h_score": lambda features, labels: h_score(spectrum(features), labels),
    "transrate": lambda features, labels: transrate(spectrum(features), labels),
}


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=10)
@given(st.sampled_from([(40, 6), (30, 45)]), st.floats(-100, 100), st.floats(0.01, 100), st.integers(0, 99))
def test_scores_do_not_change_under_shift_scale_rotation_and_renaming(
    name: str, shape: tuple[int, int], shift: float, scale: float, seed: int
) -> None:
    features, labels = data(*shape, seed=seed)
    rotation = stats.ortho_group.rvs(shape[1], random_state=seed)
    renamed = np.array([2, 0, 1])[labels]
    assert SCORES[name]((features @ rotation + shift) * scale, renamed) == pytest.approx(
        SCORES[name](features, labels), rel=1e-5, abs=1e-7
    )


@pytest.mark.parametrize("name", SCORES)
def test_scores_rise_with_the_signal(name: str) -> None:
    values = [SCORES[name](*data(200, 8, signal=signal)) for signal in (0.0, 0.5, 2.0)]
    assert values == sorted(values)


# --- the probe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [6, 70])
def test_the_ridge_is_that_of_scikit_learn(d: int) -> None:
    linear = needs("sklearn.linear_model")
    features, labels = data(50, d)
    test = data(20, d, seed=1)[0]
    centred = features - features.mean(0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    values = values[values > 1e-9]
    penalties = np.logspace(-6, 4, 21) * values.mean()
    theirs = linear.RidgeCV(alphas=penalties).fit(features, one_hot(labels))
    assert np.allclose(ridge(features, spectrum(features), one_hot(labels), test), theirs.predict(test), atol=1e-6)


def test_the_neighbours_are_those_of_scikit_learn() -> None:
    neighbors = needs("sklearn.neighbors")
    features, _ = data(50, 4)
    test, target = data(20, 4, seed=1)[0], np.random.default_rng(0).standard_normal((50, 1))
    theirs = neighbors.KNeighborsRegressor(5).fit(features, target)
    assert np.allclose(nearest(features, target, test), theirs.predict(test), atol=0.01)


def test_folds_spread_every_class() -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    fold = folds(labels, 75, 5, np.random.default_rng(0))
    counts = np.array([np.bincount(labels[fold == one], minlength=3) for one in range(5)])
    assert (counts == [10, 4, 1]).all()


# --- the shortlist ---------------------------------------------------------------------------------------------------


def shortlist(**changes: Any) -> Any:
    strong, labels = data(120, 6, signal=1.0)
    sources = {
        "noise": data(120, 6, signal=0.0, seed=3)[0],
        "strong": strong,
        "weak": strong + 2 * data(120, 6, signal=0.0, seed=9)[0],
    }
    return transfer.rank(sources, labels, **changes)


def test_the_best_features_come_first() -> None:
    found = shortlist()
    assert found.top(1) == ["strong"] and found.ranked[-1].name == "noise"
    assert found["strong"].first > 0.9 and found.samples == 120 and found.task == "classes"
    for figure in found["strong"].figures.values():
        assert math.isnan(figure.value) or figure.low <= figure.value <= figure.high
    assert found["strong"].figures["linear"].value > found["noise"].figures["linear"].value + 0.3


def test_agreement_and_worth_are_shown() -> None:
    found = shortlist()
    assert found.agreement["score", "linear"] == 1.0 and ("logme", "h_score") in found.agreement
    text = str(found)
    assert "exact evidence of a linear model" in text and "agreement with the score" in text
    assert "strong: accuracy" in text


def test_the_shortlist_is_plain_data() -> None:
    plain = json.loads(json.dumps(shortlist().to_json(), allow_nan=False))
    assert [one["name"] for one in plain["ranked"]] == shortlist().top(3)
    assert plain["ranked"][0]["figures"]["leep"]["value"] is None


def test_a_ranking_is_repeatable_and_blind_to_the_names_of_labels() -> None:
    features, labels = data(90, 4)
    names = np.array(["zebra", "ant", "cow"])[labels]
    first = transfer.rank({"a": features}, labels)["a"]
    again = transfer.rank({"a": features}, labels)["a"]
    renamed = transfer.rank({"a": features}, names)["a"]
    assert first.score == again.score
    for name in ("logme", "h_score", "transrate"):
        assert renamed.figures[name].value == pytest.approx(first.figures[name].value, rel=1e-9)


def test_values_are_predicted_too() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((150, 4))
    values = features[:, 0] + 0.1 * rng.standard_normal(150)
    found = transfer.rank({"good": features, "bad": rng.standard_normal((150, 4))}, values)
    assert found.task == "values" and found.top(1) == ["good"]
    assert found["good"].figures["linear"].value == pytest.approx(0.99, abs=0.02)
    assert "the labels are values" in found["good"].figures["h_score"].note
    assert math.isfinite(found["good"].figures["logme"].value)


def test_equal_features_are_told_apart_by_what_is_known_of_them() -> None:
    features, labels = data(120, 6)
    found = transfer.rank(
        {
            "small": Candidate(features, parameters=1e5, domain=0.0, cost=1.0, accuracy=0.7),
            "large": Candidate(features, parameters=1e7, domain=1.0, cost=10.0, accuracy=0.9),
        },
        labels,
    )
    assert found.top(1) == ["large"]
    terms = found["large"].terms
    assert (terms["size"], terms["domain"], terms["cost"]) == pytest.approx((1.0, 0.5, -0.05))
    assert found["large"].score == pytest.approx(sum(terms.values()))
    assert "size +1.00" in found["large"].reason


def test_what_cannot_be_told_apart_is_said() -> None:
    features, labels = data(60, 4)
    noise = 0.3 * np.random.default_rng(1).standard_normal((2, 60, 4))
    found = transfer.rank({"a": features + noise[0], "b": features + noise[1]}, labels)
    assert found.ranked[0].first < 0.7 and any("do not trust the order" in note for note in found.notes)
    clear = transfer.rank({"a": features, "b": noise[1]}, labels)
    assert clear.ranked[0].first > 0.9 and not any("do not trust" in note for note in clear.notes)


def test_at_most_so_many_samples_evenly_over_the_classes() -> None:
    features, labels = data(1000, 4)
    found = transfer.rank({"a": features}, labels, samples=150, scores=())
    assert found.samples <= 150 and "of 1000 samples were used" in found.notes[0]


def test_absent_and_rare_classes_are_named() -> None:
    features, labels = data(60, 4)
    labels = labels.copy()
    labels[0] = 9
    found = transfer.rank({"a": features}, labels)
    assert any("fewer than 5 samples" in note and "9" in note for note in found.notes)


def test_constant_features_are_left_out_and_said() -> None:
    features, labels = data(60, 4)
    found = transfer.rank({"a": features, "b": np.column_stack([features, np.full(60, 7.0)])}, labels)
    assert "1 of 5 features are constant" in found["b"].notes[0]
    assert found["b"].figures["logme"].value == pytest.approx(found["a"].figures["logme"].value, abs=1e-9)


FEATURES, LABELS = data(60, 4)


@pytest.mark.parametrize(("sources", "labels", "options", "words"), [
    ({"a": np.where(FEATURES > 2, np.nan, FEATURES)}, LABELS, {}, "features are not finite"),
    ({"a": np.ones((60, 4))}, LABELS, {}, "all its features are constant"),
    ({"a": FEATURES[:50]}, LABELS, {}, "for 60 labels"),
    ({"a": FEATURES}, LABELS * 0, {}, "nothing to tell apart"),
    ({"a": FEATURES}, np.full(60, 0.5), {}, "nothing to predict"),
    ({"a": FEATURES}, np.where(LABELS == 0, np.nan, LABELS), {}, "labels are not finite"),
    ({"a": FEATURES[:5]}, LABELS[:5], {}, "at least 10"),
    ({}, LABELS, {}, "no sources"),
    ({"a": FEATURES}, LABELS, {"scores": ["logm"]}, "Did you mean 'logme'"),
    ({"a": FEATURES}, LABELS, {"task": "regression"}, "neither"),
    ({"a": lambda x: x}, LABELS, {}, "give inputs="),
    ({"a": Candidate(FEATURES, probabilities=FEATURES[:5])}, LABELS, {}, "probabilities of shape"),
])  # fmt: skip
def test_what_is_refused(sources: Any, labels: Any, options: Any, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        transfer.rank(sources, labels, **options)


def test_models_and_functions_are_run_on_the_inputs() -> None:
    torch = needs("torch")
    torch.manual_seed(0)
    inputs, labels = data(90, 6)
    inputs = inputs.astype(np.float32)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 12), torch.nn.BatchNorm1d(12), torch.nn.ReLU(), torch.nn.Linear(12, 4)
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    function = lambda x: x[:, :1]  # noqa: E731
    turned = Candidate(model, prepare=lambda x: x[:, ::-1].copy())
    found = transfer.rank({"net": model, "one": function, "turned": turned}, labels, inputs=inputs)
    assert math.isfinite(found["net"].figures["leep"].value) and math.isfinite(found["net"].figures["nce"].value)
    assert math.isnan(found["one"].figures["leep"].value)
    assert found["net"].terms.keys() >= {"probe", "size", "cost"}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()) and model.training
    with torch.no_grad():
        hidden = model.eval()[:3](torch.tensor(inputs)).numpy()
    direct = transfer.rank({"net": hidden}, labels)
    assert found["net"].figures["logme"].value == pytest.approx(direct["net"].figures["logme"].value, rel=1e-6)
    with pytest.raises(TransferError, match="prepare=function"):
        transfer.rank({"net": model}, labels, inputs=inputs[:, :3])


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12))
def test_kendall_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    one, two = np.array(pairs, float).T
    theirs = float(stats.kendalltau(one, two).statistic)
    assert kendall(one, two) == pytest.approx(theirs, nan_ok=True)
