"""Transfer: start from what is already learned. Which source, and which tensor goes where. One method a file.

`rank` scores candidate sources on the target's data, and `choice` puts them into a space. `source` finds the weights of
a trial, a file or a model; `map_weights` carries them into another and reports on every tensor. `FineTune` trains them,
and `savings` says what it was all worth. Ranking and mapping see a model as names, shapes and NumPy arrays; what is
special to a framework is in the helpers `_torch` and `_keras`, which reach it only where the user imported it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretell import _family
from foretell.errors import TransferError as TransferError

if TYPE_CHECKING:
    from foretell.transfer.choosing import choice as choice
    from foretell.transfer.comparison import savings as savings
    from foretell.transfer.fine_tune import FineTune as FineTune
    from foretell.transfer.mapping import map_weights as map_weights
    from foretell.transfer.ranking import rank as rank
    from foretell.transfer.sources import source as source

_MEMBERS = {
    **{"rank": "ranking", "choice": "choosing", "source": "sources", "map_weights": "mapping"},
    **{"FineTune": "fine_tune", "savings": "comparison"},
}
__all__ = ["TransferError", *sorted(_MEMBERS)]  # noqa: PLE0604 - texts, as the table above shows


def __getattr__(name: str) -> Any:
    """Members load on first use (PEP 562)."""
    if name not in _MEMBERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = _family.load("transfer", _MEMBERS[name])
    return value
