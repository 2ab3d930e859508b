"""Weights between torch modules of other sizes: channels, widths, depths, positions, vocabularies, and ties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import transfer
from foretell.transfer import TransferError
from tests.conftest import needs
from tests.transfer.models import Holder, Words, batch, cnn, mlp

torch = needs("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_one_channel_is_the_sum_of_three() -> None:
    source, target = cnn(3), cnn(1)
    report = transfer.map_weights(source, target)
    grey = torch.randn(2, 1, 8, 8)
    assert report["0.weight"].status == "sliced" and "summed" in report["0.weight"].evidence
    assert torch.allclose(target.eval()(grey), source.eval()(grey.expand(2, 3, 8, 8)), atol=1e-5)


def test_more_channels_repeat_and_rescale() -> None:
    source, target = cnn(3), cnn(6)
    transfer.map_weights(source, target)
    colour = torch.randn(2, 3, 8, 8)
    assert torch.allclose(target.eval()(torch.cat([colour, colour], 1)), source.eval()(colour), atol=1e-5)


def test_widths_need_consent() -> None:
    with pytest.raises(TransferError, match="resize=True"):
        transfer.map_weights(mlp(4, 8, 8, 3), mlp(4, 12, 12, 3))


@settings(max_examples=15)
@given(st.lists(st.integers(8, 20), min_size=2, max_size=2), st.sampled_from([0.0, 0.01, 0.3]))
def test_wider_networks_compute_the_same(widths: list[int], noise: float) -> None:
    source, target = mlp(4, 8, 8, 3), mlp(4, *widths, 3)
    report = transfer.map_weights(source, target, resize=True, noise=noise, probe=batch(5, 4))
    assert report.check is not None and report.check.relative < 1e-5


def test_wider_convolutions_with_statistics_and_a_flattened_map() -> None:
    source, target = cnn(width=4), cnn(width=7)
    report = transfer.map_weights(source, target, resize=True, probe=batch(2, 3, 8, 8))
    assert report.check is not None and report.check.relative < 1e-5
    assert report["1.running_var"].status == "expanded" and report["1.running_var"].buffer


def test_replicas_do_not_stay_replicas() -> None:
    source, target = mlp(4, 8, 3), mlp(4, 16, 3)
    transfer.map_weights(source, target, resize=True, noise=0.01)
    optimizer = torch.optim.Adam(target.parameters(), 0.01)
    x, y = torch.randn(32, 4), torch.randint(3, (32,))
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(target(x), y).backward()
        optimizer.step()
    assert not torch.allclose(target[0].weight[:8], target[0].weight[8:], atol=1e-5)


def test_layer_norm_is_kept_by_even_replication_only() -> None:
    def model(width: int) -> Any:
        return nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3))

    even = transfer.map_weights(model(8), model(16), resize=True, probe=batch(5, 4))
    odd = transfer.map_weights(model(8), model(11), resize=True, probe=batch(5, 4))
    assert even.check is not None and even.check.relative < 1e-4
    assert odd.check is not None and odd.check.relative > 1e-3
    assert "the function is not kept" in odd["1.weight"].evidence


def test_wider_attention_computes_the_same() -> None:
    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.embed = nn.Linear(5, width)
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.head = nn.Linear(width, 3)

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            return self.head(x + self.attention(x, x, x)[0])

    source = Block(8, 2)
    nn.init.normal_(source.attention.in_proj_bias)
    for width, heads in ((16, 4), (16, 2), (12, 3)):  # more heads; larger heads; one head twice
        target = Block(width, heads)
        report = transfer.map_weights(source, target, resize=True, probe=batch(2, 6, 5))
        assert report.check is not None and report.check.relative < 1e-5, (width, heads)


def test_a_narrow_network_takes_every_second_unit_of_a_wide_one() -> None:
    source, target = mlp(4, 16, 16, 3), mlp(4, 8, 8, 3)
    report = transfer.map_weights(source, target, resize=True)
    assert torch.equal(target[0].weight, source[0].weight[::2])
    expected = source[2].weight[::2, ::2] * 2**0.5
    assert torch.allclose(target[2].weight, expected) and report["2.weight"].status == "sliced"


def test_an_lstm_is_sliced_gate_by_gate() -> None:
    source, target = nn.LSTM(4, 8), nn.LSTM(4, 4)
    transfer.map_weights(Holder("rnn", source), Holder("rnn", target), resize=True)
    gates = source.weight_ih_l0.reshape(4, 8, 4)[:, ::2].reshape(16, 4)
    assert torch.equal(target.weight_ih_l0, gates)


def test_deeper_networks_begin_as_the_shallow_ones() -> None:
    source, target = mlp(4, 8, 8, 3), mlp(4, 8, 8, 8, 8, 3)
    report = transfer.map_weights(source, target, resize=True, allow_partial=True, probe=batch(5, 4))
    assert report.check is not None and report.check.relative < 1e-6


def test_deeper_transformers_begin_as_the_shallow_ones() -> None:
    def model(depth: int) -> Any:
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, norm_first=True, batch_first=True)
        encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        return nn.Sequential(nn.Linear(5, 8), encoder, nn.Linear(8, 3))

    report = transfer.map_weights(model(2), model(3), resize=True, probe=batch(2, 6, 5))
    assert report.check is not None and report.check.relative < 1e-6
    assert report["1.layers.2.linear2.weight"].status == "initialised"


@pytest.mark.parametrize("name", ["2.weight", "2.bias", "0.bias"])
def test_what_the_report_says_would_force_it_does(name: str) -> None:
    """The arguments in `force` are code: added to the call, they map the tensor."""
    source, target = mlp(4, 8, 8, 3), mlp(4, 12, 12, 3)
    report = transfer.map_weights(source, target, dry_run=True, allow_partial=True, pairs={"4": "4"})
    options = eval(f"dict({report[name].force})")
    assert transfer.map_weights(source, target, **options)[name].mapped


def test_a_missing_bias_is_zero() -> None:
    source = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
    report = transfer.map_weights(source, mlp(4, 8, 3), probe=batch(2, 4))
    assert report.check is not None and report.check.error < 1e-6


class Vision(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, 6))
        self.body = mlp(6, 8, 8, 3)


@pytest.mark.parametrize(("before", "after", "grid", "tokens"), [
    (16, 36, None, 0), (17, 37, None, 1), (37, 17, None, 1), (18, 66, None, 2),
    (1 + 24, 1 + 60, ((4, 6), (6, 10)), 1), (24, 15, ((4, 6), (3, 5)), 0),
])  # fmt: skip
def test_tables_of_positions_are_interpolated_as_torch_does(before: int, after: int, grid: Any, tokens: int) -> None:
    source, target = Vision(before), Vision(after)
    report = transfer.map_weights(source, target, grid=grid)
    old, new = grid or ((int((before - tokens) ** 0.5),) * 2, (int((after - tokens) ** 0.5),) * 2)
    image = source.pos_embed[:, tokens:].reshape(1, *old, 6).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(image, new, mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, -1, 6)
    assert torch.allclose(target.pos_embed[:, tokens:], wanted, atol=1e-5)
    assert torch.equal(target.pos_embed[:, :tokens], source.pos_embed[:, :tokens])
    assert report["pos_embed"].status == "interpolated"


def test_a_grid_larger_than_the_table() -> None:
    with pytest.raises(TransferError, match="more places than"):
        transfer.map_weights(Vision(17), Vision(37), grid=((5, 5), (6, 6)))


def test_a_vocabulary_follows_its_tokens_and_stays_tied() -> None:
    source, target = Words(4), Words(3)
    report = transfer.map_weights(source, target, vocab=(["a", "b", "c", "d"], ["d", "new", "b"]))
    assert torch.equal(target.wte.weight[[0, 2]], source.wte.weight[[3, 1]])
    assert torch.allclose(target.wte.weight[1], source.wte.weight.mean(0))
    assert target.lm_head.weight is target.wte.weight
    assert report["lm_head.weight"].status == "re-tied" and report["wte.weight"].filled == 12


def test_a_vocabulary_of_another_size_is_refused_without_tokens() -> None:
    report = transfer.map_weights(Words(4), Words(3), allow_partial=True)
    assert report["wte.weight"].status == "refused" and report["wte.weight"].force.startswith("vocab=")


@pytest.mark.parametrize("kept", ["wte.weight", "lm_head.weight"])
def test_a_file_keeps_one_name_of_what_is_tied(kept: str) -> None:
    source, target = Words(4), Words(4)
    file = {name: tensor for name, tensor in source.state_dict().items() if name in (kept, "body.weight", "body.bias")}
    report = transfer.map_weights(file, target)
    assert torch.equal(target.wte.weight, source.wte.weight) and target.lm_head.weight is target.wte.weight
    assert report.weights.share == 1.0


def test_tied_into_untied_and_back() -> None:
    source, target = Words(4), Words(4, tied=False)
    transfer.map_weights(source, target)
    assert torch.equal(target.lm_head.weight, source.wte.weight) and target.lm_head.weight is not target.wte.weight
    with torch.no_grad():
        target.lm_head.weight.add_(1)
    report = transfer.map_weights(target, Words(4))
    assert "is another tensor and was not used" in report["lm_head.weight"].evidence
