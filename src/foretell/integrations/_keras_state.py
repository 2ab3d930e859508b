"""Keras: models and optimisers, on any back end, for checkpoints."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, final

import keras
import numpy as np

from foretell.adapters import Array, Kind, Symbol, Tree
from foretell.adapters._trees import check_shape
from foretell.errors import CheckpointError

__all__ = ["ADAPTER"]


@final
@dataclass(frozen=True, slots=True)
class Keras:
    """Layers (models are layers) and optimisers, as NumPy arrays: what one back end saved, another one can load.

    Variables are matched by their order, since Keras numbers the names of layers on as a program builds more of them.
    """

    name: Final = "keras"

    def handles(self, value: object) -> bool:
        """Layers, models and optimisers."""
        return isinstance(value, keras.layers.Layer | keras.optimizers.Optimizer)

    def state(self, value: Any) -> Tree:
        """All variables, seeds of random layers included."""
        _require_built(value)
        return [_numpy(variable) for variable in value.variables]

    def restore(self, value: Any, tree: Tree, kind: Kind) -> str | None:
        """Assign all variables; of a parent's optimiser nothing is taken, as its count of steps is its schedule's."""
        if isinstance(value, keras.optimizers.Optimizer) and kind == "inherit":
            return "its moments start anew, as they belong to another count of steps"
        _require_built(value)
        variables: Sequence[Any] = value.variables
        if len(variables) != len(tree):
            raise CheckpointError(f"it has {len(variables)} variables here and {len(tree)} in the checkpoint")
        for variable, array in zip(variables, tree, strict=True):
            check_shape(variable.path, array.shape, variable.shape)
        for variable, array in zip(variables, tree, strict=True):
            variable.assign(array)
        return None

    def rng_state(self) -> None:
        """None: layers keep their own seeds, and the back ends' generators are other adapters' or have no state."""
        return

    def set_rng_state(self, tree: Tree) -> str | None:
        """Nothing to put back."""
        return None

    def key(self, leaf: object) -> Hashable | None:
        """None: the leaves are NumPy's."""
        return None

    def pack(self, leaf: Any) -> NoReturn:
        """Never called, as no leaf has a key."""
        raise NotImplementedError

    def unpack(self, packed: Array | Symbol) -> NoReturn:
        """Never called, as nothing is packed."""
        raise NotImplementedError

    def put(self, saved: Any, current: object, *, in_place: bool) -> Any:
        """The saved leaf."""
        return saved


ADAPTER: Final = Keras()


def _numpy(variable: Any) -> Any:
    # Not by keras.ops.convert_to_numpy: on NumPy 2 it warns, on each back end. NumPy has no bfloat16 (nor float8), but
    # float32 holds each of their values, and `assign` casts back.
    tensor = keras.ops.convert_to_tensor(variable)
    if keras.backend.standardize_dtype(tensor.dtype).startswith(("bfloat", "float8")):
        tensor = keras.ops.cast(tensor, "float32")
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def _require_built(value: Any) -> None:
    if not value.built:
        raise CheckpointError(
            "it has no variables yet: give the model an Input, or call model.build(shape), before it is tracked"
        )
