"""Cases of weight mapping with Keras, run in a process of their own: `python keras_cases.py` prints one JSON object.

Keras fixes its backend when it is imported, and other tests may have imported it with another one.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from keras import layers
from torch import nn

from foretell import transfer

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def images(n=2, size=8, channels=3):
    return np.random.default_rng(0).standard_normal((n, channels, size, size)).astype(np.float32)


def randomised(model):
    """A Keras model whose biases and statistics are not what they are initialised to."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "seed" not in variable.path:
            positive = "variance" in variable.path
            value = rng.uniform(0.5, 1.5, variable.shape) if positive else 0.3 * rng.standard_normal(variable.shape)
            variable.assign(value.astype(np.float32))
    return model


def torch_cnn():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 6, 1),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 6 * 16),
        nn.ReLU(),
        nn.Linear(96, 5),
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, 3, 8, 8) * 2 + 1)
    return model


def keras_cnn():
    return randomised(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(4, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.DepthwiseConv2D(3),
                layers.Conv2D(6, 1),
                layers.Dropout(0.5),
                layers.Flatten(),
                layers.Dense(96, activation="relu"),
                layers.Dense(5),
            ]
        )
    )


@case
def cnn_to_keras():
    report = transfer.map_weights(torch_cnn(), keras_cnn(), probe=images())
    return {
        "error": report.check.relative,
        "share": report.weights.share,
        "buffers": report.buffers.share,
        "statuses": sorted({t.status for t in report.tensors}),
    }


@case
def cnn_to_torch():
    report = transfer.map_weights(keras_cnn(), torch_cnn(), probe=np.moveaxis(images(), 1, -1))
    return {"error": report.check.relative, "share": report.weights.share, "notes": list(report.notes)}


@case
def round_trip():
    first, between, last = torch_cnn(), keras_cnn(), torch_cnn()
    with torch.no_grad():
        for tensor in last.parameters():
            tensor.zero_()
    transfer.map_weights(first, between)
    transfer.map_weights(between, last)
    same = all(torch.equal(a, b) for a, b in zip(first.parameters(), last.parameters(), strict=True))
    return {"same": same, "mean": torch.equal(first[1].running_mean, last[1].running_mean)}


@case
def transposed_convolution():
    torch.manual_seed(0)
    source = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3), nn.ConvTranspose2d(4, 6, 2, stride=2)
    )
    target = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),
            layers.ReLU(),
            layers.Conv2DTranspose(4, 3),
            layers.Conv2DTranspose(6, 2, strides=2),
        ]
    )
    probe = images()
    report = transfer.map_weights(source, target, probe={"source": probe, "target": np.moveaxis(probe, 1, -1)})
    after = np.moveaxis(keras.ops.convert_to_numpy(target(np.moveaxis(probe, 1, -1))), -1, 1)
    return {
        "error": float(np.abs(after - source(torch.tensor(probe)).detach().numpy()).max()),
        "status": report.tensors[2].status,
    }


@case
def one_dimension():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6, 2))
    target = keras.Sequential(
        [keras.Input((8, 3)), layers.Conv1D(4, 3), layers.ReLU(), layers.Flatten(), layers.Dense(2)]
    )
    probe = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    report = transfer.map_weights(source, target, probe={"source": probe, "target": np.moveaxis(probe, 1, -1)})
    return {"error": report.check.relative}


class Recurrent(nn.Module):
    def __init__(self, kind, layers=1, both=False):
        super().__init__()
        self.rnn = kind(5, 4, num_layers=layers, bidirectional=both, batch_first=True)
        self.head = nn.Linear(8 if both else 4, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def keras_recurrent(kind, depth=1, both=False, **settings):
    model = keras.Sequential([keras.Input((7, 5))])
    for _ in range(depth):
        layer = kind(4, return_sequences=True, **settings)
        model.add(layers.Bidirectional(layer) if both else layer)
    model.add(layers.Dense(3))
    return randomised(model)


def recurrent(kind, theirs, depth=1, both=False):
    torch.manual_seed(0)
    probe = np.random.default_rng(0).standard_normal((2, 7, 5)).astype(np.float32)
    source = Recurrent(kind, depth, both)
    target = keras_recurrent(theirs, depth, both)
    there = transfer.map_weights(source, target, probe=probe)
    again = Recurrent(kind, depth, both)
    back = transfer.map_weights(target, again, probe=probe)
    return {
        "error": max(there.check.relative, back.check.relative),
        "share": there.weights.share,
        "back": back.weights.share,
    }


@case
def lstm():
    return recurrent(nn.LSTM, layers.LSTM)


@case
def gru():
    return recurrent(nn.GRU, layers.GRU)


@case
def simple_rnn():
    return recurrent(nn.RNN, layers.SimpleRNN)


@case
def stacked_lstm():
    return recurrent(nn.LSTM, layers.LSTM, depth=2)


@case
def bidirectional_gru():
    return recurrent(nn.GRU, layers.GRU, both=True)


@case
def gru_without_reset_after():
    source, target = Recurrent(nn.GRU), keras_recurrent(layers.GRU, reset_after=False)
    report = transfer.map_weights(source, target, allow_partial=True)
    return {"statuses": sorted({t.status for t in report.tensors if "gru" in t.name})}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8, eps=1e-3)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(self.norm(x + self.attention(x, x, x)[0]))


def keras_attention():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8)(tokens)
    y = layers.MultiHeadAttention(2, 4)(x, x)
    return randomised(keras.Model(tokens, layers.Dense(3)(layers.LayerNormalization()(x + y))))


@case
def attention():
    torch.manual_seed(0)
    source, target, probe = Attention(), keras_attention(), np.arange(12).reshape(2, 6) % 11
    there = transfer.map_weights(source, target, probe=probe)
    again = Attention()
    back = transfer.map_weights(target, again, probe=probe)
    names = {t.name: list(t.sources) for t in back.tensors}
    return {
        "error": max(there.check.relative, back.check.relative),
        "share": there.weights.share,
        "fused": len(names["attention.in_proj_weight"]),
    }


@case
def session_counter():
    keras.backend.clear_session()
    first = keras_cnn()
    second = keras_cnn()
    report = transfer.map_weights(first, second, probe=np.moveaxis(images(), 1, -1))
    return {
        "error": report.check.error,
        "share": report.weights.share,
        "names": [first.layers[0].name, second.layers[0].name],
    }


@case
def keras_names_that_mislead():
    """dense_1 in one model is the second layer of the other: only the order is right."""
    keras.backend.clear_session()
    first = randomised(
        keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="relu"), layers.Dense(4), layers.Dense(2)])
    )
    keras.backend.clear_session()
    layers.Dense(4)
    second = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="relu"), layers.Dense(4), layers.Dense(2)])
    report = transfer.map_weights(first, second, probe=np.eye(4, dtype=np.float32))
    return {"error": report.check.error}


@case
def same_padding_with_stride():
    source = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
    target = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, strides=2, padding="same"), layers.ReLU()])
    report = transfer.map_weights(source, target, allow_partial=True)
    return {"notes": list(report.notes)}


@case
def batchnorm_epsilon():
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    target = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)]
    )
    report = transfer.map_weights(source, target)
    return {"notes": list(report.notes)}


@case
def separable():
    model = randomised(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.SeparableConv2D(5, 3, depth_multiplier=2),
                layers.Flatten(),
                layers.Dense(2),
            ]
        )
    )
    torch.manual_seed(0)
    target = nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.Conv2d(6, 5, 1), nn.Flatten(), nn.Linear(180, 2)
    )
    report = transfer.map_weights(model, target, probe=np.moveaxis(images(), 1, -1))
    return {"error": report.check.relative, "share": report.weights.share}


@case
def application():
    source = keras.applications.MobileNetV2(weights=None, classes=7, input_shape=(32, 32, 3), alpha=0.35)
    target = keras.applications.MobileNetV2(weights=None, classes=4, input_shape=(32, 32, 3), alpha=0.35)
    report = transfer.map_weights(source, target)
    return {
        "backbone": report.backbone.share,
        "head": [t.status for t in report.tensors if t.head],
        "buffers": report.buffers.share,
    }


class Opaque(keras.Model):
    """A model whose graph cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.conv, self.flatten, self.dense = layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)

    def call(self, x):
        return self.dense(self.flatten(self.conv(x)))


@case
def unknown_order_of_a_flattened_map():
    target = Opaque()
    target(np.moveaxis(images(), 1, -1))
    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    report = transfer.map_weights(source, target, probe=images())
    return {"notes": list(report.notes), "error": report.check.relative}


@case
def ranking_of_keras_models():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    data = rng.standard_normal((40, 8, 8, 3)).astype(np.float32)
    data[labels == 1, :4] += 3.0
    model = keras_cnn()
    found = transfer.rank({"net": model, "noise": rng.standard_normal((40, 5))}, labels, inputs=data)
    hidden = keras.Model(model.inputs, model.layers[-1].input)(data, training=False)
    hidden = keras.ops.convert_to_numpy(hidden)
    direct = transfer.rank({"net": hidden}, labels)
    same = found["net"].figures["logme"].value - direct["net"].figures["logme"].value
    return {"first": found.top(1), "difference": abs(same), "leep": found["net"].figures["leep"].value}


@case
def unbuilt():
    try:
        transfer.map_weights(torch_cnn(), keras.Sequential([layers.Dense(3)]))
    except transfer.TransferError as error:
        return {"message": str(error)}
    return {"message": ""}


@case
def widen_keras():
    def model(width):
        return randomised(
            keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    layers.Conv2D(width, 3),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.Flatten(),
                    layers.Dense(2 * width, activation="relu"),
                    layers.Dense(3),
                ]
            )
        )

    report = transfer.map_weights(model(4), model(7), resize=True, probe=np.moveaxis(images(), 1, -1))
    return {"error": report.check.relative}


def main():
    results = {}
    for name, function in CASES.items():
        try:
            results[name] = function()
        except Exception:
            results[name] = {"failed": traceback.format_exc()}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
