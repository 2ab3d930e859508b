"""Weights into tiny random models of transformers, against that library's own loader. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell import transfer
from tests.conftest import needs

torch = needs("torch")
transformers = needs("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
BERT = SMALL | {"vocab_size": 30, "max_position_embeddings": 20}
VIT = SMALL | {"image_size": 16, "patch_size": 4}
TOKENS = np.arange(2, 14).reshape(2, 6)


def build(name: str, config: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():  # no biases of zero and no gains of one, which hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def bert(name: str, **changes: Any) -> Any:
    return build(name, transformers.BertConfig(**BERT | changes))


def gpt2(**changes: Any) -> Any:
    config = {"vocab_size": 30, "n_positions": 20, "n_embd": 16, "n_layer": 2, "n_head": 2} | changes
    return build("GPT2LMHeadModel", transformers.GPT2Config(**config, bos_token_id=0, eos_token_id=0))


def vit(name: str = "ViTForImageClassification", **changes: Any) -> Any:
    return build(name, transformers.ViTConfig(**VIT | changes))


def differ(model: Any) -> Any:
    """The same model with other weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    return model


def test_a_headless_model_into_one_with_a_head_as_its_own_loader_does(tmp_path: Path) -> None:
    source = bert("BertModel")
    source.save_pretrained(tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path, num_labels=5).eval()
    target = differ(bert("BertForSequenceClassification", num_labels=5))
    report = transfer.map_weights(source, target)
    assert report.backbone.share == 1.0 and not report["classifier.weight"].mapped
    loaded = dict(theirs.named_parameters())
    for name, parameter in target.named_parameters():
        assert name.startswith("classifier") or torch.equal(parameter, loaded[name]), name


def test_another_number_of_labels_as_its_own_loader_does(tmp_path: Path) -> None:
    source = bert("BertForSequenceClassification", num_labels=3)
    source.save_pretrained(tmp_path)
    theirs, info = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    target = differ(bert("BertForSequenceClassification", num_labels=5))
    report = transfer.map_weights(tmp_path, target)  # from the file that transformers wrote
    missed = {tensor.name for tensor in report.tensors if not tensor.mapped}
    assert missed == {entry[0] for entry in info["mismatched_keys"]}
    loaded = dict(theirs.named_parameters())
    assert all(
        torch.equal(parameter, loaded[name]) for name, parameter in target.named_parameters() if name not in missed
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_gpt2_whose_square_matrices_lie_the_other_way_round(tmp_path: Path, from_file: bool) -> None:
    source, target = gpt2(), differ(gpt2())
    source.save_pretrained(tmp_path)
    report = transfer.map_weights(tmp_path if from_file else source, target)
    with torch.no_grad():
        tokens = torch.tensor(TOKENS)
        assert torch.equal(source(tokens).logits, target(tokens).logits)
    assert target.lm_head.weight is target.transformer.wte.weight and report["lm_head.weight"].status == "re-tied"


def test_the_headless_file_of_a_gpt2(tmp_path: Path) -> None:
    source = gpt2()
    source.transformer.save_pretrained(tmp_path)
    target = differ(gpt2())
    transfer.map_weights(tmp_path, target)
    with torch.no_grad():
        assert torch.equal(source(torch.tensor(TOKENS)).logits, target(torch.tensor(TOKENS)).logits)


def test_gpt2_into_separate_projections_of_torch() -> None:
    """Fused (in, 3 out) into three of (out, in): the layout differs, and nothing but the layout."""

    class Projections(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (torch.nn.Linear(16, 16) for _ in "qkv")
            self.c_proj = torch.nn.Linear(16, 16)

    source, target = gpt2().transformer.h[0].attn, Projections()
    report = transfer.map_weights(source, target)
    x = torch.randn(3, 16)
    fused = source.c_attn(x).split(16, dim=1)
    for part, mine in zip(fused, (target.q, target.k, target.v), strict=True):
        assert torch.allclose(part, mine(x), atol=1e-6)
    assert torch.allclose(source.c_proj(x), target.c_proj(x), atol=1e-6)
    assert report["c_proj.weight"].status == "transposed"


def test_a_vit_for_larger_images() -> None:
    source, target = vit(num_labels=3), differ(vit(num_labels=3, image_size=24))
    report = transfer.map_weights(source, target)
    positions = report["vit.embeddings.position_embeddings"]
    assert positions.status == "interpolated" and (positions.source_shapes[0], positions.shape) == (
        (1, 17, 16),
        (1, 37, 16),
    )
    old = source.vit.embeddings.position_embeddings
    image = old[:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(image, (6, 6), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    new = target.vit.embeddings.position_embeddings
    assert torch.allclose(new[:, 1:], wanted.reshape(1, 36, 16), atol=1e-5) and torch.equal(new[:, 0], old[:, 0])
    assert report.backbone.share == 1.0


def test_labels_of_a_configuration_are_classes() -> None:
    source, target = vit(num_labels=3), vit(num_labels=2)
    transfer.map_weights(source, target, classes=(["cat", "dog", "owl"], ["owl", "cat"]))
    assert torch.equal(target.classifier.weight, source.classifier.weight[[2, 0]])


def test_a_vocabulary_of_bert_grows() -> None:
    old, new = [f"t{i}" for i in range(30)], [f"t{i}" for i in range(33)]
    source, target = bert("BertForMaskedLM"), differ(bert("BertForMaskedLM", vocab_size=33))
    report = transfer.map_weights(source, target, vocab=(old, new))
    embeddings = source.bert.embeddings.word_embeddings.weight
    assert torch.allclose(target.bert.embeddings.word_embeddings.weight[30], embeddings.mean(0), atol=1e-6)
    with torch.no_grad():
        tokens = torch.tensor(TOKENS)
        assert torch.allclose(source(tokens).logits, target(tokens).logits[..., :30], atol=1e-5)
    assert report.backbone.share > 0.95


def test_longer_positions_are_stretched_and_shorter_ones_cut() -> None:
    source, longer, shorter = bert("BertModel"), bert("BertModel", max_position_embeddings=40), bert(
        "BertModel", max_position_embeddings=10)  # fmt: skip
    name = "embeddings.position_embeddings.weight"
    assert transfer.map_weights(source, longer)[name].status == "interpolated"
    assert transfer.map_weights(source, shorter)[name].status == "sliced"
    table = source.embeddings.position_embeddings.weight
    assert torch.equal(shorter.embeddings.position_embeddings.weight, table[:10])


def test_distilbert_takes_every_layer_of_bert_by_place() -> None:
    config = transformers.DistilBertConfig(
        vocab_size=30,
        max_position_embeddings=20,
        dim=16,
        n_layers=2,
        n_heads=2,
        hidden_dim=24,
        sinusoidal_pos_embds=False,
    )
    source, target = bert("BertModel"), build("DistilBertModel", config)
    report = transfer.map_weights(source, target, probe=TOKENS)
    assert report.backbone.share == 1.0
    query = source.encoder.layer[1].attention.self.query.weight
    assert torch.equal(target.transformer.layer[1].attention.q_lin.weight, query)


def test_a_small_bert_from_a_large_one() -> None:
    source, target = bert("BertModel", num_attention_heads=4, num_hidden_layers=3), bert("BertModel", hidden_size=8,
        intermediate_size=12)  # fmt: skip
    report = transfer.map_weights(source, target, resize=True)
    assert report.backbone.share == 1.0 and report.counts["sliced"] > 30
    rows = np.array([0, 1, 2, 3, 8, 9, 10, 11])  # heads 0 and 2 of 4
    wanted = source.encoder.layer[1].attention.self.query.weight[rows][:, ::2] * 2**0.5
    assert torch.allclose(target.encoder.layer[1].attention.self.query.weight, wanted, atol=1e-6)


def resnet(depths: list[int], widths: list[int]) -> Any:
    sizes = {"embedding_size": widths[0], "hidden_sizes": widths, "depths": depths, "layer_type": "basic"}
    model = build("ResNetForImageClassification", transformers.ResNetConfig(**sizes, num_labels=4))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("depths", "widths"), [([1, 2], [4, 8]), ([1, 2], [8, 16]), ([2, 3], [4, 8]), ([2, 2], [6, 9])]
)
def test_a_residual_network_grows_and_computes_the_same(depths: list[int], widths: list[int]) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    report = transfer.map_weights(
        resnet([1, 2], [4, 8]), resnet(depths, widths), resize=True, allow_partial=True, probe=images
    )
    assert report.check is not None and report.check.relative < 1e-5
    assert report.buffers.share > 0.5 if depths != [1, 2] else report.buffers.share == 1.0


def test_a_bert_twice_as_wide_computes_the_same() -> None:
    source, target = bert("BertModel"), bert("BertModel", hidden_size=32, num_attention_heads=4, intermediate_size=50)
    report = transfer.map_weights(source, target, resize=True, probe=TOKENS)
    expected, actual = (model(torch.tensor(TOKENS)).last_hidden_state.detach() for model in (source, target))
    assert torch.allclose(actual[..., :16], expected, atol=1e-4) and torch.allclose(
        actual[..., 16:], expected, atol=1e-4
    )
    assert report.backbone.share == 1.0


def test_a_wider_network_cannot_keep_its_scale_where_input_and_output_are_tied() -> None:
    report = transfer.map_weights(gpt2(), gpt2(n_embd=32, n_head=4), resize=True, probe=TOKENS)
    assert report.check is not None and report.check.relative > 0.1
    assert "is not kept" in report["lm_head.weight"].evidence


def test_one_layer_used_many_times_is_one_layer() -> None:
    config = transformers.AlbertConfig(**BERT | {"embedding_size": 8, "num_hidden_layers": 3})
    source, target = build("AlbertModel", config), differ(build("AlbertModel", config))
    report = transfer.map_weights(source, target, probe=TOKENS)
    assert report.check is not None and report.check.error == 0.0 and report.weights.share == 1.0


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for the old name
def test_lora_is_refused_and_its_merged_model_taken() -> None:
    peft = needs("peft")
    base = bert("BertForSequenceClassification", num_labels=2)
    wrapped = peft.get_peft_model(base, peft.LoraConfig(target_modules=["query"], r=2))
    with pytest.raises(transfer.TransferError, match="merge_and_unload"):
        transfer.map_weights(wrapped, bert("BertForSequenceClassification", num_labels=2))
    report = transfer.map_weights(wrapped.merge_and_unload(), bert("BertForSequenceClassification", num_labels=2),
                                  probe=TOKENS)  # fmt: skip
    assert report.check is not None and report.check.error < 1e-5
