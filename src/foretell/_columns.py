"""Arrays that grow at the end in amortised O(1)."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
class Column:
    """A growing array of one dtype; rows may be vectors of a fixed width.

    Args:
        dtype: of the elements.
        width: None for scalars, else the length of each row.
    """

    __slots__ = ("_data", "_length")

    def __init__(self, dtype: type | str, width: int | None = None) -> None:
        self._data = np.zeros(16 if width is None else (16, width), dtype)
        self._length = 0

    def append(self, row: Any) -> None:
        """Add one row at the end."""
        if self._length == len(self._data):
            grown = np.zeros((2 * self._length, *self._data.shape[1:]), self._data.dtype)
            grown[: self._length] = self._data
            self._data = grown
        self._data[self._length] = row
        self._length += 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        """One element as a Python scalar (or one row as an array)."""
        element = self._data[index]
        return element.item() if element.ndim == 0 else element

    def __setitem__(self, index: int, row: Any) -> None:
        self._data[index] = row

    @property
    def array(self) -> NDArray[Any]:
        """All rows as a view that must not be written to."""
        return self._data[: self._length]
