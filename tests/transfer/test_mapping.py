"""Weights from one torch module into another: names, heads, types, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretell import transfer
from foretell.transfer import TransferError
from tests.conftest import needs
from tests.transfer.models import Holder, Words, batch, cnn, mlp, same, state

torch = needs("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- names -----------------------------------------------------------------------------------------------------------


def test_equal_models_are_copied_exactly() -> None:
    source, target = cnn(), cnn()
    report = transfer.map_weights(source, target, probe=batch(2, 3, 8, 8))
    assert report.counts == {"exact": len(source.state_dict())}
    assert report.check is not None and report.check.error == 0.0
    assert same(state(source), state(target))
    assert report.weights.share == report.buffers.share == 1.0 and not report.unused


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "base_model.model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_seen_through(prefix: str) -> None:
    source, target = mlp(4, 8, 8, 3), mlp(4, 8, 8, 3)
    report = transfer.map_weights({prefix + name: tensor for name, tensor in source.state_dict().items()}, target)
    assert report.counts == {"renamed": 6}
    assert same(state(source), state(target))
    assert all(tensor.confidence > 0.9 for tensor in report.tensors)


def test_wrapped_and_compiled_modules_are_sources() -> None:
    source, target = mlp(4, 8, 3), mlp(4, 8, 3)
    transfer.map_weights(nn.DataParallel(torch.compile(source, backend="eager")), target)
    assert same(state(source), state(target))


def test_old_names_of_a_norm() -> None:
    target = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    file = {f"{k}": v + 1 for k, v in target.state_dict().items()}
    old = {name.replace("1.weight", "1.gamma").replace("1.bias", "1.beta"): value for name, value in file.items()}
    transfer.map_weights(old, target)
    assert same(state(target), file)


def test_a_renamed_prefix_is_found() -> None:
    source, target = Holder("encoder", cnn()), Holder("trunk", cnn())
    report = transfer.map_weights(source, target, probe=batch(2, 3, 8, 8))
    assert report.check is not None and report.check.error == 0.0
    assert "encoder there is trunk here" in report["trunk.3.weight"].evidence


def test_a_layer_inserted_before_shifts_the_numbers() -> None:
    source = mlp(4, 4, 4, 4)  # all square: by name, every tensor would fit somewhere else
    target = nn.Sequential(nn.Dropout(0.0), *mlp(4, 4, 4, 4))
    report = transfer.map_weights(source, target, probe=batch(2, 4))
    assert report.check is not None and report.check.error == 0.0


def test_two_modules_inserted_keep_the_parity_of_numbers() -> None:
    source = mlp(4, 8, 8, 3)
    target = nn.Sequential(nn.Identity(), nn.Identity(), *mlp(4, 8, 8, 3))
    report = transfer.map_weights(source, target, probe=batch(2, 4))
    assert report.check is not None and report.check.error == 0.0


def test_a_number_that_now_means_another_kind_of_layer_is_no_name() -> None:
    source = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    target = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2))
    transfer.map_weights(source, target)
    for mine, yours in ((0, 0), (2, 1), (3, 2)):
        assert torch.equal(target[mine].weight, source[yours].weight)


def test_equal_numbers_are_names_where_the_structure_is_the_same() -> None:
    report = transfer.map_weights(mlp(4, 8, 8, 3), mlp(4, 12, 12, 5), resize=True)
    assert {tensor.confidence for tensor in report.tensors} == {1.0}


def test_pairs_force_and_forbid() -> None:
    source, target = mlp(4, 4, 4, 4), mlp(4, 4, 4, 4)
    before = state(target)
    report = transfer.map_weights(source, target, pairs={"0": "2", "4": None})
    assert torch.equal(target[0].weight, source[2].weight) and torch.equal(target[4].weight, before["4.weight"])
    assert report["4.weight"].status == "initialised" and report["0.weight"].status == "renamed"


@pytest.mark.parametrize("pairs", [{"0": "nowhere"}, {"nowhere": "0"}])
def test_pairs_that_do_not_exist(pairs: dict[str, str]) -> None:
    with pytest.raises(TransferError, match="Known: 0, 2"):
        transfer.map_weights(mlp(4, 4, 4), mlp(4, 4, 4), pairs=pairs)


class Odd(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = mlp(3, 3, 3)
        setattr(self, name, nn.Parameter(torch.randn(7)))


def test_shape_alone_needs_consent() -> None:
    source, target = Odd("first"), Odd("second")
    report = transfer.map_weights(source, target)
    assert report["second"].status == "initialised" and "first has its shape" in report["second"].evidence
    assert report["second"].force == "allow_by_shape=True"
    assert not torch.equal(source.first, target.second)
    report = transfer.map_weights(source, target, allow_by_shape=True)
    assert torch.equal(source.first, target.second) and report["second"].confidence <= 0.3


# --- errors leave the target alone -----------------------------------------------------------------------------------


def test_nothing_mapped_is_an_error() -> None:
    target = mlp(4, 8, 3)
    before = state(target)
    with pytest.raises(TransferError, match="Nothing of the source fits"):
        transfer.map_weights(nn.Sequential(nn.Conv2d(3, 4, 3)), target)
    assert same(before, state(target))


def test_less_than_half_of_the_backbone_is_an_error() -> None:
    source, target = mlp(4, 8, 3), nn.Sequential(*mlp(4, 8, 40), nn.ReLU(), nn.Linear(40, 3))
    before = state(target)
    with pytest.raises(TransferError, match="allow_partial=True"):
        transfer.map_weights(source, target)
    assert same(before, state(target))
    report = transfer.map_weights(source, target, allow_partial=True)
    assert report.backbone.share < 0.5 and torch.equal(source[0].weight, target[0].weight)


def test_a_model_into_itself_is_left_as_it_is() -> None:
    model = cnn()
    before = state(model)
    transfer.map_weights(model, model)
    assert same(before, state(model))


def test_a_probe_that_fails_undoes_everything() -> None:
    target = mlp(4, 8, 3)
    before = state(target)
    with pytest.raises(TransferError, match="The probe batch cannot be run"):
        transfer.map_weights(mlp(4, 8, 3), target, probe={"source": batch(2, 4), "target": batch(2, 5)})
    assert same(before, state(target))


def test_a_dry_run_writes_nothing() -> None:
    target = mlp(4, 8, 3)
    before = state(target)
    report = transfer.map_weights(mlp(4, 8, 3), target, dry_run=True)
    assert same(before, state(target)) and not report.applied and report.weights.share == 1.0


def test_a_tensor_without_values() -> None:
    with torch.device("meta"):
        empty = mlp(4, 8, 3)
    for source, target in ((mlp(4, 8, 3), empty), (empty, mlp(4, 8, 3))):
        with pytest.raises(TransferError, match="meta device"):
            transfer.map_weights(source, target)
    with pytest.raises(TransferError, match="no shape yet"):
        transfer.map_weights(mlp(4, 8, 3), nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize(("source", "target", "words"), [
    (3, mlp(2, 2), "The source is a int"), (mlp(2, 2), 3, "The target is a int"), ({}, mlp(2, 2), "holds no tensors"),
])  # fmt: skip
def test_what_is_no_model(source: Any, target: Any, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        transfer.map_weights(source, target)


def test_modes_of_the_models_are_kept() -> None:
    source, target = cnn().eval(), cnn().train()
    target[1].eval()
    transfer.map_weights(source, target, probe=batch(2, 3, 8, 8))
    assert target.training and not target[1].training and not source.training
    assert torch.equal(source[1].running_mean, target[1].running_mean)


# --- heads -----------------------------------------------------------------------------------------------------------


def test_a_head_of_other_classes_is_left_and_says_how_to_map_it() -> None:
    source, target = cnn(classes=5), cnn(classes=3)
    report = transfer.map_weights(source, target)
    assert report["6.weight"].status == "initialised" and report.backbone.share == 1.0
    assert report["6.weight"].force == "classes=(source_names, target_names)"
    assert report["6.weight"].source_shapes == ((5, 128),) and report["6.weight"].shape == (3, 128)


def test_known_classes_are_kept_by_name() -> None:
    source, target = cnn(classes=4), cnn(classes=3)
    fresh = target[6].weight[1].clone()
    names = (["background", "cat", "dog", "fox"], ["fox", "owl", "cat"])
    report = transfer.map_weights(source, target, classes=names, probe=batch(2, 3, 8, 8))
    assert torch.equal(target[6].weight[0], source[6].weight[3]) and torch.equal(
        target[6].weight[2], source[6].weight[1]
    )
    assert torch.equal(target[6].weight[1], fresh)
    assert report["6.weight"].status == "remapped" and report["6.weight"].filled == 2 * 128
    assert report.check is not None and report.check.error < 1e-6 and "2 classes" in report.check.outputs


def test_as_many_classes_in_another_order() -> None:
    source, target = cnn(classes=3), cnn(classes=3)
    transfer.map_weights(source, target, classes=(["a", "b", "c"], ["c", "a", "b"]))
    assert torch.equal(target[6].bias, source[6].bias[[2, 0, 1]])


def test_labels_that_fit_no_head() -> None:
    with pytest.raises(TransferError, match="as many outputs on both sides"):
        transfer.map_weights(cnn(classes=5), cnn(classes=3), classes=(list("abcde"), list("abcd")))
    with pytest.raises(TransferError, match="as many rows on both sides"):
        transfer.map_weights(Words(4), Words(3), vocab=(list("abcd"), list("abcde")))


def test_a_label_given_twice() -> None:
    with pytest.raises(TransferError, match="has a label twice"):
        transfer.map_weights(cnn(), cnn(), classes=(["a"] * 5, list("abcde")))


class TwoHeads(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, classes)
        self.head_dist = nn.Linear(8, classes)


def test_all_heads_follow_the_labels() -> None:
    source, target = TwoHeads(2), TwoHeads(3)
    report = transfer.map_weights(source, target, classes=(["a", "b"], ["b", "x", "a"]))
    for name in ("head", "head_dist"):
        assert torch.equal(getattr(target, name).weight[[2, 0]], getattr(source, name).weight)
        assert report[f"{name}.weight"].head
    assert report.backbone.all_tensors == 2


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types_are_converted_and_the_target_keeps_its_own(dtype: str) -> None:
    source, target = mlp(4, 8, 3).to(getattr(torch, dtype)), mlp(4, 8, 3)
    transfer.map_weights(source, target)
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source[0].weight.float())
    transfer.map_weights(target, source)
    assert source[0].weight.dtype == getattr(torch, dtype)


def test_quantised_integers_are_no_weights() -> None:
    file: dict[str, Any] = dict(mlp(4, 8, 8, 3).state_dict())
    file["2.weight"] = (file["2.weight"] * 100).to(torch.int8)
    report = transfer.map_weights(file, mlp(4, 8, 8, 3), allow_partial=True)
    assert report["2.weight"].status == "refused" and "dequantise" in report["2.weight"].evidence


def test_values_that_are_not_finite_are_noted() -> None:
    source = mlp(4, 8, 3)
    with torch.no_grad():
        source[0].weight[0, 0] = torch.nan
    report = transfer.map_weights(source, mlp(4, 8, 3), probe=batch(2, 4))
    assert any("0.weight" in note and "not finite" in note for note in report.notes)
    assert "not finite" in str(report.check)


def test_buffers_that_are_not_saved_are_the_targets_own() -> None:
    target = mlp(4, 8, 3)
    target.register_buffer("cache", torch.ones(3), persistent=False)
    report = transfer.map_weights(mlp(4, 8, 3), target)
    assert torch.equal(target.cache, torch.ones(3)) and "cache" not in {tensor.name for tensor in report.tensors}


def test_epsilon_is_noted() -> None:
    source, target = cnn(), cnn()
    source[1].eps = 1e-3
    assert any("eps" in note for note in transfer.map_weights(source, target).notes)


def test_adapters_that_were_not_merged() -> None:
    file = {**mlp(4, 8, 3).state_dict(), "0.lora_A.default.weight": torch.zeros(2, 4)}
    with pytest.raises(TransferError, match="merge_and_unload"):
        transfer.map_weights(file, mlp(4, 8, 3))


def test_groups_that_do_not_fit() -> None:
    source = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3))
    target = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 8, 3))
    report = transfer.map_weights(source, target, allow_partial=True, resize=True)
    assert report["0.weight"].status == "refused" and "groups" in report["0.weight"].evidence


# --- files -----------------------------------------------------------------------------------------------------------


def test_safetensors_files_and_folders(tmp_path: Path) -> None:
    save = needs("safetensors.torch").save_file
    source = mlp(4, 8, 3).bfloat16()
    save(source.state_dict(), tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        target = mlp(4, 8, 3)
        transfer.map_weights(place, target)
        assert torch.equal(target[2].weight, source[2].weight.float())


def test_a_torch_file_of_tensors_is_read(tmp_path: Path) -> None:
    source, target = mlp(4, 8, 3), mlp(4, 8, 3)
    torch.save({"epoch": 3, "state_dict": source.state_dict()}, tmp_path / "model.pt")
    transfer.map_weights(tmp_path / "model.pt", target)
    assert same(state(source), state(target))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save(mlp(4, 8, 3), tmp_path / "model.pt")
    with pytest.raises(TransferError, match="could run code"):
        transfer.map_weights(tmp_path / "model.pt", mlp(4, 8, 3))


def test_raw_or_averaged_weights_is_the_users_choice() -> None:
    weights = mlp(4, 8, 3).state_dict()
    with pytest.raises(TransferError, match="averaged"):
        transfer.map_weights({"state_dict": weights, "state_dict_ema": weights}, mlp(4, 8, 3))


@pytest.mark.parametrize("name", ["absent.safetensors", "weights.h5"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "weights.h5").write_bytes(b"no tensors")
    with pytest.raises(TransferError):
        transfer.map_weights(tmp_path / name, mlp(4, 8, 3))
    (tmp_path / "torn.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TransferError, match="cannot be read as safetensors"):
        transfer.map_weights(tmp_path / "torn.safetensors", mlp(4, 8, 3))


def test_a_checkpoint_of_a_run_is_a_source(tmp_path: Path) -> None:
    from foretell.checkpoint import Checkpoint, capture, write

    source, target = mlp(4, 8, 3), mlp(4, 8, 3)
    optimizer = torch.optim.Adam(source.parameters())
    source(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    write(tmp_path / "made", capture({"model": source, "optimizer": optimizer}), {"step": 3})
    transfer.map_weights(Checkpoint.open(tmp_path / "made"), target)
    assert same(state(source), state(target))


# --- the report ------------------------------------------------------------------------------------------------------


def test_every_tensor_has_its_own_shapes_in_the_report() -> None:
    """A table that merges the layers of one pattern keeps one shape for all of them, and is wrong."""
    source, target = mlp(4, 8, 16, 3), mlp(4, 8, 12, 3)
    report = transfer.map_weights(source, target, allow_partial=True, classes=(list("abc"), list("abc")))
    refused = {one.name: (one.shape, one.source_shapes[0]) for one in report.tensors if one.status == "refused"}
    assert refused["2.weight"] == ((12, 8), (16, 8)) and refused["2.bias"] == ((12,), (16,))
    text = str(report)
    for name, (mine, theirs) in refused.items():
        row = next(line for line in text.splitlines() if f" {name} " in line)
        assert str(list(mine))[1:-1] in row and str(list(theirs))[1:-1] in row


def test_totals_count_tensors_and_elements_weights_and_buffers_apart() -> None:
    report = transfer.map_weights(cnn(classes=5), cnn(classes=3))
    assert report.weights.all_elements == sum(p.numel() for p in cnn(classes=3).parameters())
    assert report.weights.elements == report.weights.all_elements - 3 * 128 - 3
    assert (report.buffers.tensors, report.buffers.all_tensors) == (3, 3)
    assert set(report.unused) == {"6.weight", "6.bias"}


def test_the_report_is_plain_data() -> None:
    report = transfer.map_weights(cnn(classes=5), cnn(classes=3), probe=batch(2, 3, 8, 8))
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["counts"] == report.counts and data["weights"]["elements"] == report.weights.elements
    assert data["check"]["error"] is None and len(data["tensors"]) == len(report.tensors)
