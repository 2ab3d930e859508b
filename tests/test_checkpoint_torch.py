"""Checkpoints of PyTorch objects: bit-equal resume, inheritance, ties, and every element type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretell.adapters import find
from foretell.checkpoint import capture, load_tensors, read, restore, unsupported, write
from foretell.errors import CheckpointError

from .test_checkpoint import Holder, through_disk

torch = pytest.importorskip("torch")
nn, optim = torch.nn, torch.optim

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adamw": lambda p: optim.AdamW([{"params": p[:1], "weight_decay": 0.0}, {"params": p[1:]}], lr=torch.tensor(0.01)),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adafactor": lambda p: optim.Adafactor(p, lr=0.01),
    "rprop": lambda p: optim.Rprop(p, lr=0.01),
}
SCHEDULERS: dict[str, Any] = {
    "multistep": lambda o: optim.lr_scheduler.MultiStepLR(o, [2, 2, 5], gamma=0.5),
    "one_cycle": lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=0.05, total_steps=10),
    "cosine": lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "sequential": lambda o: optim.lr_scheduler.SequentialLR(
        o, [optim.lr_scheduler.LinearLR(o), optim.lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
    "plateau": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "lambda": lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "cyclic": lambda o: optim.lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=3, cycle_momentum=False),
}


def mlp() -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


class Training:
    """A small net with dropout, shuffled batches, noise from a generator of its own, and a moving average in a dict."""

    def __init__(self, seed: int, optimizer: str, scheduler: str) -> None:
        torch.manual_seed(seed)
        self.model = mlp()
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.noise = torch.Generator().manual_seed(seed)
        self.average = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        self.tracked = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        self.tracked |= {"noise": self.noise, "average": self.average}
        inputs = torch.linspace(-1, 1, 96).reshape(24, 4)
        self.data = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True).sin())

    def epoch(self) -> list[float]:
        losses = []
        self.model.train()
        for inputs, targets in torch.utils.data.DataLoader(self.data, batch_size=8, shuffle=True):
            self.optimizer.zero_grad()
            noisy = inputs + 0.01 * torch.randn(inputs.shape, generator=self.noise)
            loss = nn.functional.mse_loss(self.model(noisy), targets)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight.detach(), 0.1)
        needs_loss = isinstance(self.scheduler, optim.lr_scheduler.ReduceLROnPlateau)
        self.scheduler.step(*([losses[-1]] if needs_loss else []))
        return losses


PAIRS = [*((name, "multistep") for name in OPTIMIZERS), *(("sgd", name) for name in SCHEDULERS), ("adam", "plateau")]


@pytest.mark.parametrize(("optimizer", "scheduler"), PAIRS)
def test_training_resumes_bit_for_bit(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    straight = Training(0, optimizer, scheduler)
    assert not unsupported(straight.tracked)
    for _ in range(3):
        straight.epoch()
    digest = write(tmp_path / "c", capture(straight.tracked), {"step": 3})
    expected = [straight.epoch() for _ in range(3)]
    resumed = Training(1, optimizer, scheduler)
    for _ in range(2):
        resumed.epoch()
    assert restore(resumed.tracked, read(tmp_path / "c", digest)[0]) == ()
    assert [resumed.epoch() for _ in range(3)] == expected
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
        assert name not in straight.average or torch.equal(straight.average[name], resumed.average[name]), name
    assert repr(resumed.scheduler.state_dict()) == repr(straight.scheduler.state_dict())
    assert repr(resumed.optimizer.state_dict()) == repr(straight.optimizer.state_dict())


def test_a_snapshot_is_a_copy_both_ways() -> None:
    training = Training(0, "adam", "multistep")
    training.epoch()
    snapshot = capture(training.tracked)
    first = training.epoch()
    restore(training.tracked, snapshot)
    assert training.epoch() == first
    restore(training.tracked, snapshot)
    assert training.epoch() == first


def test_moments_keep_their_precision() -> None:
    def build() -> tuple[Any, Any]:
        weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        return weight, optim.SGD([weight], lr=0.1)

    weight, optimizer = build()
    optimizer.state[weight]["master"] = torch.full((3,), 1 / 3)
    snapshot = capture({"optimizer": optimizer})
    weight, optimizer = build()
    restore({"optimizer": optimizer}, snapshot)
    assert torch.equal(optimizer.state[weight]["master"], torch.full((3,), 1 / 3))


# ------------------------------------------------------------------------------------------------ inherit


def test_inherit_takes_weights_and_moments_but_no_rate_position_or_random_numbers() -> None:
    parent, child = Training(0, "adam", "multistep"), Training(1, "adam", "multistep")
    for _ in range(3):
        parent.epoch()
    for group in child.optimizer.param_groups:
        group.update(lr=0.123, weight_decay=0.456, betas=(0.5, 0.6))
    groups = repr(child.optimizer.state_dict()["param_groups"])
    schedule, noise, rng = repr(child.scheduler.state_dict()), child.noise.get_state(), torch.get_rng_state()
    assert restore(child.tracked, capture(parent.tracked), "inherit") == ()
    for name, tensor in parent.model.state_dict().items():
        assert torch.equal(tensor, child.model.state_dict()[name])
    moments = child.optimizer.state_dict()["state"]
    for index, state in parent.optimizer.state_dict()["state"].items():
        assert sorted(state) == ["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"]
        assert all(torch.equal(state[name], moments[index][name]) for name in state)
    assert repr(child.optimizer.state_dict()["param_groups"]) == groups
    assert child.optimizer.param_groups[0]["lr"] == 0.123
    assert repr(child.scheduler.state_dict()) == schedule
    assert torch.equal(child.noise.get_state(), noise) and torch.equal(torch.get_rng_state(), rng)
    child.epoch()


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (optim.Adam, lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
        (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), optim.Adam),
        (optim.Adam, lambda p: optim.Adam(p, amsgrad=True)),
        (optim.RMSprop, lambda p: optim.RMSprop(p, momentum=0.9)),
    ],
)
def test_moments_of_another_kind_start_anew_and_say_so(parent: Any, child: Any) -> None:
    def step(optimizer: Any, model: Any) -> None:
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()

    old, new = nn.Linear(3, 1), nn.Linear(3, 1)
    old_optimizer, new_optimizer = parent(list(old.parameters())), child(list(new.parameters()))
    step(old_optimizer, old)
    notes = restore({"optimizer": new_optimizer}, capture({"optimizer": old_optimizer}), "inherit")
    assert len(notes) == 1 and notes[0].startswith("optimizer: its moments start anew")
    step(new_optimizer, new)


@pytest.mark.parametrize("kind", ["resume", "inherit"])
def test_shapes_that_do_not_fit_are_named(kind: Any) -> None:
    old, new = nn.Linear(4, 3), nn.Linear(4, 2)
    before = new.weight.clone()
    with pytest.raises(CheckpointError, match=r"model.*weight.*(3, 4.*2, 4|2, 4.*3, 4)"):
        restore({"model": new}, capture({"model": old}), kind)
    assert torch.equal(new.weight, before)
    optimizers = [optim.Adam(model.parameters()) for model in (old, new)]
    with pytest.raises(
        CheckpointError, match=r"optimizer: its parameter 0 has shape \(2, 4\) here and \(3, 4\) in the"
    ):
        restore({"optimizer": optimizers[1]}, capture({"optimizer": optimizers[0]}), kind)
    with pytest.raises(CheckpointError, match=r"w: the tensor has shape \(2,\) here and \(3,\) in the checkpoint"):
        restore({"w": torch.zeros(2)}, capture({"w": torch.zeros(3)}), kind)


def test_names_that_do_not_fit_are_listed_and_nothing_is_changed() -> None:
    child = nn.Linear(4, 3, bias=False)
    before = child.weight.clone()
    with pytest.raises(CheckpointError, match=r"model.*only here \[\], only there \['bias'\]"):
        restore({"model": child}, capture({"model": nn.Linear(4, 3)}), "inherit")
    assert torch.equal(child.weight, before)
    with pytest.raises(CheckpointError, match=r"model.*\"bias\".*Build it as it was"):
        restore({"model": child}, capture({"model": nn.Linear(4, 3)}))


def test_another_optimizer_is_an_error_when_resuming() -> None:
    weights = [nn.Parameter(torch.ones(2))]
    with pytest.raises(CheckpointError, match=r"SGD here and torch\.optim\.adam\.Adam in the checkpoint"):
        restore({"o": optim.SGD(weights, lr=0.1)}, capture({"o": optim.Adam(weights)}))


# ------------------------------------------------------------------------------------------------ leaves

DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "uint64", "float16", "bfloat16", "float32"]
DTYPES += ["float64", "float8_e4m3fn", "float8_e5m2", "complex32", "complex64", "complex128"]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_every_element_type_and_shape_comes_back(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    patterns = torch.randint(0, 2 if name == "bool" else 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = patterns.view(dtype).reshape(shape) if patterns.numel() else torch.empty(shape, dtype=dtype)
    copy = Holder()
    restore({"x": copy}, through_disk(tmp_path / "c", capture({"x": Holder({"t": tensor})})))
    back = copy.tree["t"]
    assert back.dtype == dtype and back.shape == tensor.shape
    assert not back.numel() or torch.equal(back.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_views_and_symbols_come_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    z = torch.tensor([1 + 2j, 3 - 1j])
    tree = {"t": base.T, "strided": base[::2, 1::3], "wide": torch.ones(1, 3).expand(4, 3), "conj": z.conj(), "z": z}
    tree["negative"] = z.conj().imag
    symbols = {
        "size": torch.Size([2, 3]),
        "none": torch.Size([]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
    }
    copy = Holder()
    restore({"x": copy}, through_disk(tmp_path / "c", capture({"x": Holder({**tree, **symbols})})))
    assert all(torch.equal(copy.tree[name], tensor) for name, tensor in tree.items())
    for name, symbol in symbols.items():
        assert type(copy.tree[name]) is type(symbol) and copy.tree[name] == symbol


def test_tensors_are_restored_in_place_with_their_gradients_flag() -> None:
    weight = torch.ones(3, requires_grad=True)
    tree = {"layers": [weight], "step": 1}
    snapshot = capture({"tree": tree, "bare": weight})
    with torch.no_grad():
        weight.zero_()
    restore({"tree": tree, "bare": weight}, snapshot)
    assert tree["layers"][0] is weight and weight.requires_grad and weight.tolist() == [1, 1, 1]
    with pytest.raises(CheckpointError, match=r"float64 here and of torch.float32"):
        restore({"w": torch.zeros(3, dtype=torch.float64)}, capture({"w": torch.zeros(3)}))


def test_a_class_of_ones_own_gets_new_tensors_and_keeps_none_of_its_old_ones() -> None:
    old, new = Holder({"shadow": torch.ones(3), "n": 4}), Holder({"shadow": torch.zeros(3), "n": 0})
    before = new.tree["shadow"]
    restore({"ema": new}, capture({"ema": old}), "inherit")
    assert new.tree["shadow"].tolist() == [1, 1, 1] and new.tree["n"] == 0
    restore({"ema": new}, capture({"ema": old}))
    assert new.tree["shadow"].tolist() == [1, 1, 1] and new.tree["n"] == 4
    assert before.tolist() == [0, 0, 0] and new.tree["shadow"] is not old.tree["shadow"]


class Tied(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_are_stored_once_and_restored_to_both(tmp_path: Path) -> None:
    model, new = Tied(), Tied()
    back = through_disk(tmp_path / "c", capture({"model": model, "twin": model}, rng=False))
    assert back.nbytes == 50 * 8 * 4
    aliases = json.loads((tmp_path / "c" / "state.json").read_text())["aliases"]
    assert set(aliases.values()) == {"model/embedding.weight"}
    assert sorted(aliases) == ["model/head.weight", "twin/embedding.weight", "twin/head.weight"]
    restore({"model": new, "twin": Tied()}, back)
    assert new.head.weight is new.embedding.weight and torch.equal(new.head.weight, model.head.weight)
    untied = Tied()
    untied.head.weight = nn.Parameter(torch.zeros(50, 8))
    restore({"model": untied, "twin": Tied()}, back)
    assert torch.equal(untied.head.weight, model.head.weight)
    assert torch.equal(untied.embedding.weight, model.embedding.weight)


def test_weights_are_readable_without_foretell_and_without_torch(tmp_path: Path) -> None:
    reader = pytest.importorskip("safetensors.torch")
    model = nn.Linear(3, 2).to(torch.bfloat16)
    write(tmp_path / "c", capture({"model": model}), {})
    found = reader.load_file(tmp_path / "c" / "tensors.safetensors")
    assert torch.equal(found["model/weight"], model.weight)
    arrays = load_tensors(tmp_path / "c")
    assert sorted(arrays) == ["model/bias", "model/weight"]
    assert arrays["model/weight"].tolist() == model.weight.float().tolist()


def test_versions_of_modules_travel() -> None:
    seen = []

    class Versioned(nn.Module):  # type: ignore[misc, name-defined]
        _version = 7

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.BatchNorm1d(2)

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            seen.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    restore({"m": Versioned()}, capture({"m": Versioned()}))
    assert seen == [7]


def test_what_cannot_be_copied_is_explained() -> None:
    objects = {
        "lazy": nn.LazyLinear(3),
        "meta": nn.Linear(2, 2, device="meta"),
        "sparse": Holder({"s": torch.eye(3).to_sparse()}),
        "module_in_a_dict": {"net": nn.Linear(1, 1)},
    }
    reasons = unsupported({**objects, "fine": nn.Linear(2, 2), "scaler": torch.amp.GradScaler("cpu")})
    assert list(reasons) == list(objects)
    assert "run one batch" in reasons["lazy"] and "'weight'" in reasons["lazy"]
    assert "meta device" in reasons["meta"] and "not a dense tensor" in reasons["sparse"]
    assert "module_in_a_dict['net']" in reasons["module_in_a_dict"]


def test_scalers_resume_and_are_not_inherited() -> None:
    old, new = torch.amp.GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu", init_scale=2.0)
    restore({"s": new}, capture({"s": old}), "inherit")
    assert new.get_scale() == 2.0
    restore({"s": new}, capture({"s": old}))
    assert new.get_scale() == 8.0


def test_each_object_finds_its_adapter() -> None:
    handled = {
        "torch": [mlp(), torch.ones(1), torch.Generator(), optim.SGD(mlp().parameters()), torch.amp.GradScaler("cpu")]
    }
    handled["numpy"] = [Holder(), {"w": torch.ones(1)}, [torch.ones(1)]]
    for name, objects in handled.items():
        for value in objects:
            adapter = find(value)
            assert adapter is not None and adapter.name == name


def test_random_numbers_of_a_framework_not_imported_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = capture({"w": [1.0]})
    assert sorted(snapshot.rng) == ["numpy", "torch"]
    tensors = capture({"w": [torch.ones(1)]})
    monkeypatch.delitem(__import__("sys").modules, "torch")
    notes = restore({"w": [1.0]}, snapshot)
    assert len(notes) == 1 and "torch" in notes[0]
    with pytest.raises(CheckpointError, match="write `import torch` before"):
        restore({"w": [1.0]}, tensors)
