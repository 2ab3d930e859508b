"""In what order a fine-tuning sets blocks free, and at what rates: settings, checked once."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from foretell import _family
from foretell.errors import did_you_mean
from foretell.stopping import StoppingRule, require_rule
from foretell.transfer import TransferError

Policy = Literal["probe_then_all", "gradual", "all", "probe"]
Norms = Literal["eval", "train", "frozen"]

_PROBE_SHARE, _GRADUAL_SHARE = 0.1, 0.5


def phases(policy: str, blocks: int) -> tuple[int, ...]:
    """How many blocks, from the output on, train besides the head in each phase.

    Args:
        policy: one of `Policy`.
        blocks: that may train.
    """
    if policy not in get_args(Policy):
        raise TransferError(f"policy={policy!r} is unknown. {did_you_mean(str(policy), get_args(Policy))}")
    if not blocks or policy == "probe":
        return (0,)
    return {"all": (blocks,), "gradual": tuple(range(blocks + 1))}.get(policy, (0, blocks))


def longest(share: float | None, early: int, epochs: int) -> int:
    """The most epochs of one phase before the last.

    Args:
        share: of all epochs, for these phases together; None takes a tenth for one, half for several.
        early: number of such phases, >= 1.
        epochs: of the whole training.
    """
    together = share if share is not None else _PROBE_SHARE if early == 1 else _GRADUAL_SHARE
    return max(1, math.ceil(together * epochs / early))


def depth(frozen: float, blocks: int) -> int:
    """How many blocks from the input on never train: a number of them, or a share below 1 of all.

    Raises:
        TransferError: it is neither.
    """
    if isinstance(frozen, bool) or not 0 <= frozen <= blocks or (frozen >= 1 and frozen != int(frozen)):
        raise TransferError(
            f"frozen={frozen!r} must be a whole number of blocks, at most the {blocks} there are, or a share below 1."
        )
    return int(frozen) if frozen >= 1 else math.floor(frozen * blocks)


def rule_of(patience: int | StoppingRule) -> StoppingRule:
    """The rule that ends a phase."""
    if isinstance(patience, int):
        rule: StoppingRule = _family.load("stopping", "patience")(patience)
        return rule
    require_rule(patience)
    return patience


def check(settings: dict[str, Any]) -> None:
    """Raise TransferError, with the cure, where a number lies outside its range."""
    for name, low, high, words in (
        ("lr", 0.0, math.inf, "a rate above 0"),
        ("decay", 0.0, 1.0, "above 0 and at most 1, which is no decay"),
        ("share", 0.0, 1.0, "a share of the epochs above 0, at most 1"),
    ):
        value = settings[name]
        if value is not None and not (isinstance(value, int | float) and low < value <= high and value < math.inf):
            raise TransferError(f"{name}={value!r} must be {words}.")
    if not 0 <= settings["l2_sp"] < math.inf:
        raise TransferError(f"l2_sp={settings['l2_sp']!r} must be a strength of 0 or more.")
    if settings["norms"] not in get_args(Norms):
        raise TransferError(
            f"norms={settings['norms']!r} is unknown. {did_you_mean(settings['norms'], get_args(Norms))}"
        )
