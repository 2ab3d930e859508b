"""Constraints: a condition written as an expression, or a function of the configuration."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CellType, CodeType
from typing import Any, NoReturn, final

from foretell.errors import SpaceError, did_you_mean

Evaluate = Callable[[Mapping[str, Any]], Any]

LONGEST = 2000  # characters
DEEPEST = 100  # levels: evaluation recurses, and must not run out of stack wherever it is called
LARGEST_POWER_BITS = 4096
ALLOWED = "names, numbers, strings, + - * / // % **, comparisons, 'in' with a list, and, or, not, min, max and abs"


@final
@dataclass(frozen=True, slots=True)
class Expression:
    """A condition such as "width * depth <= 512"; it holds by definition where a parameter it names is inactive.

    Raises:
        SpaceError: the text is no such condition, or names an unknown parameter.
    """

    text: str
    known: frozenset[str] = field(repr=False, compare=False)
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    _evaluate: Evaluate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = _parse(self.text)
        try:
            evaluate, names = _compile(root), _names(root)
        except SpaceError as error:
            raise SpaceError(f"The constraint {self.text!r} {error}") from None
        for name in sorted(names - self.known):
            raise SpaceError(
                f"The constraint {self.text!r} names {name!r}, which is no parameter. {did_you_mean(name, self.known)}"
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_evaluate", evaluate)

    @property
    def label(self) -> str:
        """How messages call it."""
        return repr(self.text)

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration meets it. Raises SpaceError if it cannot be computed."""
        if not all(name in params for name in self.names):
            return True
        try:
            return bool(self._evaluate(params))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise SpaceError(
                f"The constraint {self.text!r} cannot be computed for {self.shown(params)}: {error}. "
                "Write it so that it can be for every configuration."
            ) from error

    def shown(self, params: Mapping[str, Any]) -> str:
        """The values that it saw."""
        return _shown({name: value for name, value in params.items() if name in self.names})

    def to_json(self) -> str:
        """The text itself."""
        return self.text


@final
@dataclass(frozen=True, slots=True)
class Function:
    """A condition that is a Python function of the configuration."""

    function: Callable[[dict[str, Any]], object]

    @property
    def label(self) -> str:
        """How messages call it."""
        return _qualified_name(self.function)

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration meets it. Raises SpaceError if the function fails or returns nothing."""
        try:
            result = self.function(dict(params))
            if result is not None:
                return bool(result)
        except Exception as error:
            cure = "Inactive ones are absent: ask with p.get(name)." if isinstance(error, KeyError) else "Mend it."
            raise SpaceError(
                f"The constraint {self.label} failed with {type(error).__name__}: {error}, "
                f"for {self.shown(params)}. {cure}"
            ) from error
        raise SpaceError(f"The constraint {self.label} returned None for {self.shown(params)}: return True or False.")

    def shown(self, params: Mapping[str, Any]) -> str:
        """The values that it saw."""
        return _shown(params)

    def to_json(self) -> dict[str, str]:
        """Its name and a digest of its code: enough to see that it changed, not enough to run it.

        The digest is of Python's own instructions, so that another version of Python may give another one.
        """
        return {"function": self.label, "digest": hashlib.sha256(_fingerprint(self.function).encode()).hexdigest()[:16]}


Constraint = Expression | Function


def as_constraint(value: object, known: Iterable[str]) -> Constraint:
    """A constraint from a string or a function.

    Raises:
        SpaceError: it is neither, or a string that is no condition on the known names.
    """
    if isinstance(value, str):
        return Expression(value, frozenset(known))
    if callable(value):
        return Function(value)
    raise SpaceError(
        f"The constraint {value!r} is a {type(value).__name__}: give a string or a function of the configuration."
    )


def _shown(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items()) or "the empty configuration"


def _parse(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise SpaceError(f"A constraint of {len(text)} characters is too long: give a function instead.")
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpaceError(
            f"The constraint {text!r} cannot be read ({error}): write a condition such as 'a * b <= 8'."
        ) from None
    if _depth(root) > DEEPEST:
        raise SpaceError(f"The constraint {text[:40]!r}... is nested too deeply: give a function instead.")
    if not isinstance(root, ast.Compare | ast.BoolOp | ast.Name) and not _is_not(root):
        raise SpaceError(f"The constraint {text!r} is no condition: compare it with something, as in 'a * b <= 8'.")
    return root


def _depth(root: ast.expr) -> int:
    depth = 0
    level: list[ast.AST] = [root]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _names(root: ast.expr) -> frozenset[str]:
    functions = {id(node.func) for node in ast.walk(root) if isinstance(node, ast.Call)}
    return frozenset(n.id for n in ast.walk(root) if isinstance(n, ast.Name) and id(n) not in functions)


def _compile(node: ast.expr) -> Evaluate:
    compiler = _COMPILERS.get(type(node))
    return _refuse(node) if compiler is None else compiler(node)


def _refuse(node: ast.expr) -> NoReturn:
    raise SpaceError(f"uses {ast.unparse(node)!r}, which is not allowed. Allowed: {ALLOWED}. Or give a function.")


def _constant(node: ast.Constant) -> Evaluate:
    value = node.value
    if not isinstance(value, bool | int | float | str | None):
        _refuse(node)
    return lambda params: value


def _name(node: ast.Name) -> Evaluate:
    return operator.itemgetter(node.id)


def _arithmetic(node: ast.BinOp) -> Evaluate:
    apply = _ARITHMETIC.get(type(node.op)) or _refuse(node)
    left, right = _compile(node.left), _compile(node.right)
    return lambda params: apply(_number(left(params)), _number(right(params)))


def _sign(node: ast.UnaryOp) -> Evaluate:
    inner = _compile(node.operand)
    if isinstance(node.op, ast.Not):
        return lambda params: not inner(params)
    if isinstance(node.op, ast.USub):
        return lambda params: -_number(inner(params))
    if isinstance(node.op, ast.UAdd):
        return lambda params: +_number(inner(params))
    _refuse(node)


def _logic(node: ast.BoolOp) -> Evaluate:
    parts = [_compile(value) for value in node.values]
    if isinstance(node.op, ast.And):
        return lambda params: all(part(params) for part in parts)
    return lambda params: any(part(params) for part in parts)


def _comparison(node: ast.Compare) -> Evaluate:
    first = _compile(node.left)
    links: list[tuple[Callable[[Any, Any], Any], Evaluate]] = []
    for kind, operand in zip(node.ops, node.comparators, strict=True):
        compare = _COMPARISONS.get(type(kind)) or _refuse(node)
        links.append((compare, _members(operand) if isinstance(kind, ast.In | ast.NotIn) else _compile(operand)))

    def evaluate(params: Mapping[str, Any]) -> bool:
        left = first(params)
        for compare, operand in links:
            right = operand(params)
            if not compare(left, right):
                return False
            left = right
        return True

    return evaluate


def _members(node: ast.expr) -> Evaluate:
    if not isinstance(node, ast.Tuple | ast.List):
        _refuse(node)
    items = [_compile(item) for item in node.elts]
    return lambda params: [item(params) for item in items]


def _function_call(node: ast.Call) -> Evaluate:
    function = _FUNCTIONS.get(node.func.id) if isinstance(node.func, ast.Name) else None
    if function is None or node.keywords or not node.args:
        _refuse(node)
    if (len(node.args) == 1) != (function is abs):  # min and max of one argument would ask for a list
        _refuse(node)
    arguments = [_compile(argument) for argument in node.args]
    return lambda params: function(*(_number(argument(params)) for argument in arguments))


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _power(base: Any, exponent: Any) -> Any:
    # An integer power is the only way for a short text to ask for endless work.
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > LARGEST_POWER_BITS:
        raise OverflowError(f"{base} ** {exponent} is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError(f"{base} ** {exponent} is no real number")
    return result


_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, members: value in members,
    ast.NotIn: lambda value, members: value not in members,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_COMPILERS: dict[type[ast.AST], Callable[[Any], Evaluate]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _arithmetic,
    ast.UnaryOp: _sign,
    ast.BoolOp: _logic,
    ast.Compare: _comparison,
    ast.Call: _function_call,
}


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _qualified_name(function: Any) -> str:
    inner = _unwrapped(function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _fingerprint(function: Any) -> str:
    """A text that changes with the code, its constants and captured scalars, but with no address or hash seed."""
    parts = []
    while isinstance(function, functools.partial):
        parts.append(_stable((function.args, tuple(sorted(function.keywords.items())))))
        function = function.func
    inner = function if hasattr(function, "__code__") else getattr(function, "__func__", None)
    if inner is None:
        inner = type(function).__call__
    code = getattr(inner, "__code__", None)
    captured = _captured(getattr(inner, "__closure__", None) or ())
    return "|".join([*parts, _stable(code), _stable(getattr(inner, "__defaults__", None)), _stable(captured)])


def _captured(cells: Iterable[CellType]) -> list[object]:
    values = []
    for cell in cells:
        with contextlib.suppress(ValueError):  # the cell is still empty
            values.append(cell.cell_contents)
    return values


def _stable(value: object) -> str:
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()}{value.co_names}{_stable(value.co_consts)}"
    if isinstance(value, tuple | list):
        return f"({','.join(map(_stable, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_stable, value)))}}}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    return type(value).__qualname__
