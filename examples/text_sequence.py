"""Tune a small recurrent network that foretells the next character of a text, in less than a minute.

Real data that every Python carries: the topics of its own `help()`, split by topic into training, validation and test.
The search has 40 seconds on two cores (`--budget`); a training ends early by its patience, or when others are better.
For comparison, a table of counts: how often each character followed the last few.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter, defaultdict
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn

import foretell as ft

EPOCHS, LENGTH = 16, 64  # of a training; of the pieces in which the text is read, in characters
SIZES = {"train": 60_000, "val": 20_000, "test": 20_000}  # characters
SPACE = ft.Space(
    lr=ft.Float(1e-3, 3e-2, log=True),
    hidden=ft.Int(24, 128, log=True),
    embedding=ft.Int(8, 64, log=True),
    dropout=ft.Float(0, 0.5),
    batch_size=ft.Choice([16, 32, 64], ordered=True),
)


def split() -> dict[str, str]:
    """The text of each part: whole topics, but the last, without the paragraphs that earlier topics have too."""
    names, seen = sorted(topics), set()
    random.Random(0).shuffle(names)
    parts = {}
    for part, size in SIZES.items():
        text = ""
        while len(text) < size:
            fresh = [paragraph for paragraph in topics[names.pop()].split("\n\n") if paragraph.strip() not in seen]
            seen.update(paragraph.strip() for paragraph in fresh)
            text += "\n\n".join(fresh)
        parts[part] = text[:size]
    return parts


TEXT = split()
ALPHABET = "".join(sorted({*"".join(TEXT.values())}))
DATA = {name: torch.tensor([ALPHABET.index(character) for character in text]) for name, text in TEXT.items()}


class Reader(nn.Module):
    """Embedding, GRU, and a score for each character that may follow."""

    def __init__(self, params: dict) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), params["embedding"])
        self.gru = nn.GRU(params["embedding"], params["hidden"], batch_first=True)
        self.out = nn.Sequential(nn.Dropout(params["dropout"]), nn.Linear(params["hidden"], len(ALPHABET)))

    def forward(self, pieces: Tensor) -> Tensor:
        """Mean cross-entropy in bits of all but the first character, for pieces (n, LENGTH + 1)."""
        scores = self.out(self.gru(self.embedding(pieces[:, :-1]))[0])
        return nn.functional.cross_entropy(scores.flatten(0, 1), pieces[:, 1:].flatten()) / math.log(2)


def pieces(part: str, start: int = 0) -> Tensor:
    """The text from `start` on in pieces (n, LENGTH + 1); the last character of one is the first of the next."""
    return DATA[part][start:].unfold(0, LENGTH + 1, LENGTH)


@torch.no_grad()
def bits(model: Reader, part: str) -> float:
    """Bits per character: two to this power is the number of characters among which the model still hesitates."""
    model.eval()
    return model(pieces(part)).item()


def train(run: ft.Run) -> None:
    """One training: what a user writes."""
    torch.manual_seed(run.seed)
    model = Reader(run.params)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.params["lr"])
    run.track(model=model, optimizer=optimizer)
    for _ in run.epochs(EPOCHS):
        model.train()
        read = pieces("train", start=int(torch.randint(LENGTH, ())))
        for rows in torch.randperm(len(read)).split(run.params["batch_size"]):
            optimizer.zero_grad()
            model(read[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        run.report(bits=bits(model, "val"))


def test_bits(run: ft.Run) -> float:
    """Of the weights that the run restores, on topics that no choice has seen."""
    model = Reader(run.params)
    run.track(model=model)
    return bits(model, "test")


def by_counting(order: int) -> tuple[float, float]:
    """Bits per character, validation and test, by what followed the last 0, 1, ... `order` characters in training."""
    followers: dict[str, Counter[str]] = defaultdict(Counter)
    for at in range(order, len(TEXT["train"])):
        for length in range(order + 1):
            followers[TEXT["train"][at - length : at]][TEXT["train"][at]] += 1

    def bits_of(text: str) -> float:
        total = 0.0
        for at in range(order, len(text)):
            chance = 1 / len(ALPHABET)
            for length in range(order + 1):  # each count is mixed with what the shorter one says
                seen = followers.get(text[at - length : at], Counter())
                chance = (seen[text[at]] + 2 * chance) / (seen.total() + 2)
            total -= math.log2(chance)
        return total / (len(text) - order)

    return bits_of(TEXT["val"]), bits_of(TEXT["test"])


def main() -> None:
    """Search, verify the winner once, and compare with counting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="40 s", help='e.g. "2 min" or "30 epochs"')
    study = ft.minimize(train, "bits", SPACE, parser.parse_args().budget, workers=2, stopping=ft.Patience(2))
    best, verification = study.best, study.verify(test_bits)
    rows = {f"GRU, best of {len(study.trials)} trainings": (best.value, verification.value)}
    rows |= {f"counts after {order} characters": by_counting(order) for order in (0, 2, 3, 4)}
    print(f"\n{'bits per character':28}{'validation':>12}{'test':>8}")
    for name, (val, test) in rows.items():
        print(f"{name:28}{val:>12.3f}{test:>8.3f}")
    print(f"\nBest parameters: {best.params}, epoch {best.best_step} of {best.step}")
    print(study.saving)


if __name__ == "__main__":
    main()
