"""The source as one parameter of a search, with the ranking as its prior."""

from __future__ import annotations

import math
from collections.abc import Mapping

from foretell.space import Choice, Spec
from foretell.transfer import TransferError
from foretell.transfer._shortlist import Shortlist

__all__ = ["choice"]

NONE = "none"
"""The option of training from scratch."""


def choice(
    shortlist: Shortlist | Mapping[str, float],
    *,
    top: int = 4,
    none: bool = True,
    params: Mapping[str, Spec] | None = None,
) -> Choice:
    """A `Choice` between the best-ranked sources and none at all, drawn as often as the ranking hopes for each.

    Weights are half those of the scores (which are logits, so by their exponentials) and half equal, for no ranking is
    sure; "none" has an equal share.

    Args:
        shortlist: of `rank`; or scores by name, in logits, higher is better.
        top: how many sources race, >= 1.
        none: whether "none", training from scratch, is an option; without it nothing shows that transfer does harm.
        params: parameters that only exist where there is a source, e.g. {"frozen": ft.Float(0, 0.75)}.

    Raises:
        TransferError: there is no source, or one is called "none".
    """
    scores = shortlist if isinstance(shortlist, Mapping) else {one.name: one.score for one in shortlist.ranked}
    if not scores or top < 1:
        raise TransferError(f"top={top} of {len(scores)} sources leaves none to choose from: give at least one.")
    if not all(math.isfinite(score) for score in scores.values()):
        raise TransferError("A score is not finite, so it says nothing on how often to try its source: leave that out.")
    if NONE in scores:
        raise TransferError(f"A source is called {NONE!r}, which means training from scratch: give it another name.")
    names = sorted(scores, key=lambda name: -scores[name])[:top]
    hopes = [math.exp(scores[name] - scores[names[0]]) for name in names]
    weights = [0.5 * hope / math.fsum(hopes) + 0.5 / len(names) for hope in hopes]
    if none:
        names, weights = [*names, NONE], [*weights, 1 / len(names)]
    branches = {name: dict(params or {}) if name != NONE else {} for name in names}
    return Choice(branches if params else names, weights=weights)
