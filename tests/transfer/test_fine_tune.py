"""Fine-tuning: what trains in which phase, at what rates, and what stays bit for bit as it was."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest

import foretell as ft
from foretell import transfer
from foretell.transfer import FineTune, TransferError
from tests.conftest import needs
from tests.transfer.fine_tuning import EPOCHS, loss, network, task, train_epoch

torch = needs("torch")
nn = torch.nn
SGD = functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1)


def tuned(model: Any, **settings: Any) -> Any:
    return FineTune(model, settings.pop("optimizer", torch.optim.AdamW), **{"lr": 0.01, **settings})


def trained(tune: Any, epochs: int = EPOCHS, losses: list[float] | None = None, run: Any = None) -> list[int]:
    """Train, reporting true losses or those given; the phase of every epoch."""
    run = run or ft.Run(minimize="loss", restore_best=False)
    phases = []
    for epoch in tune.epochs(run, epochs):
        phases.append(tune.phase)
        train_epoch(tune.model, tune.optimizer)
        run.report(loss=losses[epoch] if losses else loss(tune.model))
    return phases


def state(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, Any], model: Any) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


# --- groups ----------------------------------------------------------------------------------------------------------


class Deep(nn.Module):  # type: ignore[misc,name-defined]
    """A model as libraries build them: own tensors, a stack of blocks, a norm, tied tensors, equal values."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.place = nn.Parameter(torch.zeros(4))
        self.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(4, 4), "down": nn.Linear(4, 4)}) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.again = nn.Linear(4, 7, bias=False)
        self.again.weight = self.words.weight
        for parameter in self.parameters():
            nn.init.zeros_(parameter)  # told apart by identity alone


def test_every_trainable_tensor_is_in_one_group_by_identity() -> None:
    model = Deep()
    model.blocks[1]["up"].bias.requires_grad_(False)
    wanted = [id(p) for p in model.parameters() if p.requires_grad]
    tune = tuned(model, head="head", decay=0.5)
    held = [id(p) for group in tune.optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(wanted) and len(set(held)) == len(held)
    assert [*tune.rates] == ["head", "blocks.2", "blocks.1", "blocks.0", "words"]
    assert [*tune.rates.values()] == [0.01 * 0.5**place for place in range(5)]
    assert tune.trainable == ["head.weight", "head.bias"]


def test_norms_belong_to_the_block_before_them_and_own_tensors_to_the_first() -> None:
    tune = tuned(Deep(), head="head", policy="all")
    groups = {group["name"]: len(group["params"]) for group in tune.optimizer.param_groups}
    assert groups == {"head": 2, "blocks.2": 6, "blocks.1": 4, "blocks.0": 4, "words": 2}


def test_blocks_and_the_head_may_be_given_by_name() -> None:
    tune = tuned(network(), head=["9"], blocks=[["0", "1"], "4", "5"], policy="gradual", decay=0.1)
    assert [*tune.rates] == ["9", "5", "4", "0"] and tune.phases == (0, 1, 2, 3)
    assert "1.weight" in tune._groups["0"]


def test_a_wrapped_model_is_seen_through() -> None:
    class Wrapper(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = Deep()

    assert next(iter(tuned(Wrapper(), head="head").rates)) == "module.head"


@pytest.mark.parametrize(("frozen", "left"), [(0, "940"), (1, "94"), (2, "9"), (0.5, "94"), (0.4, "940"), (0.99, "94")])
def test_a_number_or_a_share_of_the_blocks_never_trains(frozen: float, left: str) -> None:
    model = network()
    tune = tuned(model, frozen=frozen, norms="train")
    assert [*tune.rates] == [*left]
    before = state(model)
    trained(tune)
    norms = {"4": {"4", "5"}, "0": {"0", "1"}, "9": {"9"}}
    assert {name.partition(".")[0] for name in changed(before, model)} == set().union(*(norms[one] for one in left))


def test_a_schedule_sees_the_same_groups_in_all_phases() -> None:
    from foretell.integrations.torch_lr import ScheduledLR
    from foretell.lr.step import Step

    tune = tuned(network(), decay=0.5, policy="gradual", patience=1)
    scheduler = ScheduledLR(tune.optimizer, Step(0.1, every=2))
    run = ft.Run(minimize="loss", restore_best=False)
    for epoch in tune.epochs(run, 6):
        assert [*tune.rates.values()] == pytest.approx([0.1 * 0.1 ** (epoch // 2) * 0.5**place for place in range(3)])
        train_epoch(tune.model, tune.optimizer)
        run.report(loss=1.0)
        scheduler.step()
    assert tune.phase == 2


# --- phases ----------------------------------------------------------------------------------------------------------


def test_frozen_tensors_and_buffers_stay_bit_for_bit() -> None:
    model = network()
    before = state(model)
    tune = tuned(model, policy="probe", optimizer=SGD, norms="train")
    trained(tune)
    assert changed(before, model) == {"9.weight", "9.bias"}
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("9"))


def test_the_probe_lasts_until_its_patience_and_gives_back_its_best() -> None:
    model = network()
    tune = tuned(model, patience=2, share=0.9)
    run = ft.Run(minimize="loss", restore_best=False)
    heads, phases = [], []
    for epoch in tune.epochs(run, 8):
        phases.append(tune.phase)
        if epoch == 4:
            assert torch.equal(model[9].weight, heads[1]) and not torch.equal(model[9].weight, heads[3])
            assert tune.optimizer.state[model[9].weight]["step"] == 2 * 3  # epochs of three steps
        train_epoch(model, tune.optimizer)
        heads.append(model[9].weight.detach().clone())
        run.report(loss=[1.0, 0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3][epoch])
    assert phases == [0, 0, 0, 0, 1, 1, 1, 1]
    reason = tune.decisions[0].reason
    assert "has not beaten 0.5 for 2 checks" in reason and "best weights of epoch 2 restored" in reason
    assert "0 to 4 train too" in reason and tune.decisions[0].step == 4


def test_the_probe_takes_a_tenth_of_the_epochs_at_most() -> None:
    falling = [1 / (1 + epoch) for epoch in range(25)]
    assert trained(tuned(network(), patience=5), 25, falling).count(0) == 3
    assert trained(tuned(network(), patience=5, share=0.4), 25, falling).count(0) == 10


def test_a_gradual_thaw_sets_one_block_free_after_another() -> None:
    model = network()
    tune = tuned(model, policy="gradual", patience=1)
    seen = []
    run = ft.Run(minimize="loss", restore_best=False)
    for _ in tune.epochs(run, 6):
        before = state(model)
        train_epoch(model, tune.optimizer)
        seen.append({name.partition(".")[0] for name in changed(before, model)} - {"1", "5"})
        run.report(loss=float(len(seen)))
    assert seen == [{"9"}, {"9"}, {"9", "4"}, {"9", "4"}, {"9", "4", "0"}, {"9", "4", "0"}]


def test_any_stopping_rule_may_end_a_phase() -> None:
    phases = trained(tuned(network(), patience=ft.Threshold(0.7), share=0.9), 6, [0.9, 0.8, 0.6, 0.5, 0.4, 0.3])
    assert phases == [0, 0, 0, 1, 1, 1]


def test_a_score_counts_as_its_direction_says() -> None:
    run = ft.Run(maximize="loss", restore_best=False)
    tune = tuned(network(), patience=2, share=0.9)
    assert trained(tune, 6, [0.1, 0.5, 0.4, 0.3, 0.9, 0.9], run) == [0, 0, 0, 0, 1, 1]
    assert "best weights of epoch 2" in tune.decisions[0].reason


def test_moments_go_with_their_tensor_when_others_are_set_free() -> None:
    model = network()
    tune = tuned(model, patience=1, share=0.9)
    run = ft.Run(minimize="loss", restore_best=False)
    for epoch in tune.epochs(run, 3):
        if epoch == 2:
            assert tune.phase == 1 and tune.optimizer.state[model[9].weight]["step"] == 3
            assert not tune.optimizer.state.get(model[0].weight)
        train_epoch(model, tune.optimizer)
        run.report(loss=float(epoch))
    assert tune.optimizer.state[model[0].weight]["step"] == 3 and tune.optimizer.state[model[9].weight]["step"] == 6


def test_what_is_frozen_again_keeps_no_gradient_to_move_by() -> None:
    model = network()
    tune = tuned(model, optimizer=SGD)
    probing = tune.state_dict()
    tune._enter(1)
    train_epoch(model, tune.optimizer)
    tune.load_state_dict(probing)
    before = state(model)
    tune.optimizer.zero_grad(set_to_none=False)
    tune.optimizer.step()
    assert {name.partition(".")[0] for name in changed(before, model)} == {"9"}  # its weights decay


# --- batch norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("norms", "expected"), [("eval", {"weight"}), ("frozen", set()), ("train", {"weight", "running_mean"})]
)
def test_modes_of_batch_norms(norms: Any, expected: set[str]) -> None:
    model = network()
    before = state(model)
    tune = tuned(model, policy="all", norms=norms)
    outputs = []
    model[1].register_forward_hook(lambda module, args, output: outputs.append((args[0], output, module.training)))
    run = ft.Run(minimize="loss", restore_best=False)
    for _ in tune.epochs(run, 2):
        train_epoch(model, tune.optimizer)
        training = [output for output in outputs if output[2]]
        run.report(loss=loss(model))
    assert changed(before, model) & {"1.weight", "1.running_mean"} == {f"1.{name}" for name in expected}
    assert bool(training) == (norms == "train")
    given, output, _ = outputs[0]  # the first batch, before any step
    by_batch = given.mean((0, 2, 3)), given.var((0, 2, 3), unbiased=False)
    by_source = before["1.running_mean"], before["1.running_var"]
    mean, variance = by_batch if norms == "train" else by_source
    wanted = (given - mean[:, None, None]) / (variance[:, None, None] + model[1].eps).sqrt()
    scaled = wanted * before["1.weight"][:, None, None] + before["1.bias"][:, None, None]
    assert torch.allclose(output, scaled, atol=1e-5)
    assert ("1.weight" in tune.trainable) == (norms != "frozen")


def test_norms_of_the_head_always_learn() -> None:
    model = nn.Sequential(network()[:9], nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 2)))
    before = state(model)
    trained(tuned(model, head="1", policy="probe"))
    assert {"1.0.running_mean", "1.0.weight"} <= changed(before, model) and not {"0.1.running_mean"} & changed(
        before, model
    )


def test_frozen_blocks_have_no_dropout_and_free_ones_do() -> None:
    model = network()
    seen: list[tuple[int, bool, bool]] = []
    tune = tuned(model, blocks=[["0", "1", "2", "3"], ["4", "5"]], head="9", policy="gradual", patience=1)
    model.register_forward_hook(
        lambda module, args, output: (
            seen.append((tune.phase, module[3].training, module[5].training)) if module.training else None
        )
    )
    trained(tune, 6, [1.0] * 6)
    assert set(seen) == {(0, False, False), (1, False, True), (2, True, True)}


def test_a_block_that_is_set_free_trains_though_nobody_says_so_again() -> None:
    model = network()
    tune = tuned(model, patience=1)
    model.train()
    run = ft.Run(minimize="loss", restore_best=False)
    seen = []
    for _ in tune.epochs(run, 4):
        model(task()[0])
        seen.append((tune.phase, model[1].training))
        run.report(loss=1.0)
    assert seen[0] == (0, False) and seen[-1] == (1, True)


def test_after_the_loop_the_model_is_an_ordinary_one() -> None:
    model = network()
    trained(tuned(model, policy="probe"), 2)
    model.train()
    model(task()[0])
    assert all(module.training for module in model.modules())


def test_a_copy_of_the_model_is_left_alone() -> None:
    model = network()
    tune = tuned(model, policy="probe")
    run = ft.Run(minimize="loss", restore_best=False)
    for _ in tune.epochs(run, 1):
        twin = copy.deepcopy(model)
        twin.train()
        twin(task()[0])
        assert twin[1].training
        run.report(loss=1.0)


# --- L2-SP -----------------------------------------------------------------------------------------------------------


def test_the_pull_to_the_start_has_the_gradient_of_its_penalty() -> None:
    model, plain = network(), network()
    start = copy.deepcopy(model)
    tune = tuned(model, policy="all", l2_sp=0.3, optimizer=torch.optim.SGD, decay=1.0, lr=0.1, norms="train")
    with torch.no_grad():
        for twin in (model, plain):
            for parameter in twin.parameters():
                parameter.add_(0.05)
    inputs, labels = task()
    torch.manual_seed(1)
    nn.functional.cross_entropy(model(inputs), labels).backward()
    tune.optimizer.step()
    torch.manual_seed(1)
    penalty = sum(
        (p - old).square().sum()
        for (name, p), old in zip(plain.named_parameters(), start.parameters(), strict=True)
        if not name.startswith("9")
    )
    (nn.functional.cross_entropy(plain(inputs), labels) + 0.3 / 2 * penalty).backward()
    torch.optim.SGD(plain.parameters(), 0.1).step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_pull_moves_nothing_that_is_frozen() -> None:
    model = network()
    before = state(model)
    trained(tuned(model, policy="probe", l2_sp=0.5))
    assert changed(before, model) == {"9.weight", "9.bias"}


# --- adapters --------------------------------------------------------------------------------------------------------


def adapted() -> Any:
    peft = needs("peft")
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "2"], modules_to_save=["4"]))


def test_of_a_peft_model_the_adapters_alone_train_and_are_merged_at_the_end() -> None:
    model = adapted()
    base = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    tune = tuned(model, head="4", patience=1, share=0.5, lr=0.1)
    assert all("lora_" in name or "modules_to_save" in name for group in tune._groups.values() for name in group)
    run = ft.Run(minimize="loss", restore_best=False)
    inputs, labels = torch.randn(12, 6), torch.arange(12) % 2
    for _ in tune.epochs(run, 6):
        model.train()
        tune.optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        tune.optimizer.step()
        run.report(loss=1.0)
    assert tune.phase == 1
    assert all(torch.equal(p, base[name]) for name, p in model.named_parameters() if name in base)
    model.eval()
    expected = model(inputs)
    plain = tune.merged()
    assert torch.allclose(plain(inputs), expected, atol=1e-5)
    assert not any("lora_" in name for name in plain.state_dict())


# --- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": 0}, "a rate above 0"),
        ({"decay": 1.2}, "at most 1"),
        ({"decay": 0}, "above 0"),
        ({"share": 0}, "a share of the epochs"),
        ({"l2_sp": -1}, "0 or more"),
        ({"norms": "off"}, "Known: eval, frozen, train"),
        ({"policy": "gradually"}, "Did you mean 'gradual'"),
        ({"frozen": 3}, "at most the 2 there are"),
        ({"frozen": True}, "whole number"),
        ({"head": "fc"}, "has not"),
        ({"head": []}, "head is empty"),
        ({"head": "9", "blocks": ["0", "4"]}, "1.weight is in no block"),
        ({"head": "2"}, "no tensor of its own"),
        ({"optimizer": torch.optim.SGD(network().parameters())}, "Give the optimiser's class"),
        ({"optimizer": lambda groups: torch.optim.SGD(groups[:1])}, "has not the groups"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_cure(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(TransferError, match=words):
        tuned(network(), **settings)


def test_a_head_that_is_tied_to_the_backbone_is_no_head() -> None:
    with pytest.raises(TransferError, match="tied ones belong to where they come first"):
        tuned(Deep(), head="again")


def test_a_model_whose_backbone_was_frozen_before_is_not_thawed() -> None:
    model = network()
    for parameter in model[:9].parameters():
        parameter.requires_grad_(False)
    with pytest.raises(TransferError, match="nothing to set free"):
        tuned(model)
    assert tuned(model, policy="probe").phases == (0,)


def test_a_patience_that_is_no_rule_is_refused() -> None:
    with pytest.raises(TypeError, match="no stopping rule"):
        tuned(network(), patience="3")
    with pytest.raises(ValueError, match="Patience"):
        tuned(network(), patience=0)


def test_phases_need_a_metric() -> None:
    with pytest.raises(TransferError, match="Phases end by a metric"):
        next(iter(tuned(network()).epochs(ft.Run(), 3)))


def test_other_than_torch_is_refused() -> None:
    with pytest.raises(TransferError, match="trains torch modules"):
        transfer.FineTune({}, torch.optim.SGD, lr=0.1)
    with pytest.raises(TransferError, match="has adapters to merge"):
        tuned(network()).merged()


def test_one_rate_for_all_where_the_optimiser_estimates_it() -> None:
    prodigyopt = needs("prodigyopt")
    with pytest.raises(TransferError, match="decay=1"):
        tuned(network(), optimizer=prodigyopt.Prodigy, lr=1.0)
    assert trained(tuned(network(), optimizer=prodigyopt.Prodigy, lr=1.0, decay=1), 3)


def test_its_text_says_what_trains_and_at_what_rate() -> None:
    text = str(tuned(network(), frozen=1))
    assert (
        "phase 1 of 2: the head, the head and 1 blocks" in text and "9: 2 tensors, 26 weights, lr 0.01, trains" in text
    )
    assert "4: 4 tensors, 90 weights, lr 0.0075, waits" in text and "never train: 36 weights" in text
