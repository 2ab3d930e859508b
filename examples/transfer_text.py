"""From a large language model's words to short texts: the WordLlama embedding, which ships in a Python package.

    pip install wordllama tokenizers

Which page of Python's own manual is a sentence from? Six long pages (`pydoc` topics), ten sentences of each for
training. The model averages the embeddings of a sentence's tokens; its table has those tokens that occur, and begins
with WordLlama's weights, row by token, or at random: at equal epochs, over seven seeds (`--quick`: two). Nothing is
downloaded.
"""

from __future__ import annotations

import importlib.util
import re
import statistics
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

import foretell as ft
from foretell import transfer

QUICK = "--quick" in sys.argv
SEEDS, EPOCHS, RATES = 2 if QUICK else 7, 15, (0.01, 0.03, 0.1)
PAGES = ["debugger", "types", "string-methods", "formatstrings", "execmodel", "typesmapping"]
PARTS = {"train": (0, 10), "val": (10, 20), "test": (20, 60)}
Data = tuple[Tensor, Tensor]


def package() -> Path:
    """The folder of the package, which need not be imported."""
    found = importlib.util.find_spec("wordllama")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


TOKENIZER = Tokenizer.from_file(str(package() / "tokenizers" / "l2_supercat_tokenizer_config.json"))
WEIGHTS = package() / "weights" / "l2_supercat_256.safetensors"


def sentences() -> list[list[str]]:
    """Of each page, those that no other page has."""
    texts = [re.sub(r"\s+", " ", re.sub(r"[*`_]", "", topics[page])) for page in PAGES]
    found = [{one for one in re.split(r"(?<=[a-z])\. ", text) if 40 < len(one) < 200} for text in texts]
    return [sorted(own - set().union(*(other for other in found if other is not own))) for own in found]


def split() -> tuple[list[str], dict[str, Data]]:
    """The tokens that occur; and their numbers (n, 48), padded with 0, and the page, in three parts."""
    rng, rows = np.random.default_rng(0), []
    for label, found in enumerate(sentences()):
        rng.shuffle(found)
        for place, text in enumerate(found[:60]):
            rows.append((place, label, TOKENIZER.encode(text, add_special_tokens=False).tokens[:48]))
    vocabulary = ["(none)", *sorted({token for _, _, tokens in rows for token in tokens})]
    number = {token: index for index, token in enumerate(vocabulary)}
    parts = {}
    for name, (first, last) in PARTS.items():
        chosen = [(tokens, label) for place, label, tokens in rows if first <= place < last]
        padded = [[number[token] for token in tokens] + [0] * (48 - len(tokens)) for tokens, _ in chosen]
        parts[name] = torch.tensor(padded), torch.tensor([label for _, label in chosen])
    return vocabulary, parts


VOCABULARY, DATA = split()


class Bag(nn.Module):
    """The mean of the words' embeddings, through one hidden layer."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, len(PAGES)))

    def forward(self, tokens: Tensor) -> Tensor:
        known = (tokens != 0).unsqueeze(-1)
        return self.head((self.embedding(tokens) * known).sum(1) / known.sum(1))


@torch.no_grad()
def accuracy(model: nn.Module, part: str) -> float:
    model.eval()
    tokens, labels = DATA[part]
    return float((model(tokens).argmax(1) == labels).float().mean())


def trained(source: Path | None, lr: float, seed: int) -> tuple[float, float]:
    """Accuracy in validation, of the best epoch, and in the test."""
    torch.manual_seed(seed)
    model = Bag()
    if source is not None:
        words = [TOKENIZER.id_to_token(index) for index in range(TOKENIZER.get_vocab_size())]
        report = transfer.map_weights(source, model, vocab=(words, VOCABULARY))
        assert report["embedding.weight"].mapped, report
    tune = transfer.FineTune(model, torch.optim.Adam, lr=lr, head="head", policy="all", decay=0.75 if source else 1)
    run = ft.Run(maximize="accuracy", seed=seed)
    run.track(model=model, tune=tune)
    tokens, labels = DATA["train"]
    for _ in tune.epochs(run, EPOCHS):
        model.train()
        for rows in torch.randperm(len(labels)).split(32):
            tune.optimizer.zero_grad()
            nn.functional.cross_entropy(model(tokens[rows]), labels[rows]).backward()
            tune.optimizer.step()
        run.report(accuracy=accuracy(model, "val"))
    assert run.best is not None
    return run.best, accuracy(model, "test")


def main() -> None:
    torch.set_num_threads(1)
    began, table = time.perf_counter(), {}
    for name, source in (("from scratch", None), ("from WordLlama", WEIGHTS)):
        best = [max(trained(source, lr, seed) for lr in RATES) for seed in range(SEEDS)]
        table[name] = [test for _, test in best]
    count = len(DATA["train"][1])
    print(f"{EPOCHS} epochs, {count} texts, the best of {len(RATES)} rates by validation; test accuracy, {SEEDS} seeds")
    for name, values in table.items():
        shown = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:<14} {statistics.mean(values):.3f} (sd {statistics.stdev(values):.3f})  {shown}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
