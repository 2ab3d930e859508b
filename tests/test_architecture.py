"""The rules of the house that a machine can keep: who may import whom, how long things may be, what may appear where.

The layers are read from `docs/architecture.md`, so that the page and this test cannot disagree. Every message names the
file, the line and the cure.
"""

from __future__ import annotations

import ast
import builtins
import graphlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "foretell"
PAGE = ROOT / "docs" / "architecture.md"

LONGEST_FILE, LONGEST_FUNCTION = 500, 60
CONTRACTS_LAYER = 5
CONTRACTS_ONLY = {"coordinator", "study", "search"}  # reach members by name, through _family
FRAMEWORKS = {
    "accelerate", "flax", "jax", "keras", "lightgbm", "lightning", "matplotlib", "pandas", "pytorch_lightning",
    "sklearn", "tensorflow", "torch", "transformers", "xgboost",
}  # fmt: skip
PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
PICKLE_ROOMS = {"executors._payload", "executors._template"}
SIGN_WORDS = {"minimize", "maximize", "direction"}
SIGN_ROOMS = {"objective", "run", "study", "coordinator", "search", "cli", "face"}
# What is imported by name besides the members: integrations of imported frameworks, the user's modules, lazy exports.
DYNAMIC_ROOMS = {"_family", "adapters", "executors._payload", "executors._template", "face"}
# Two libraries can be taught no other way: cloudpickle a reduction, SQLAlchemy a column type.
INHERITANCE = {("executors", "Pickler"), ("stores", "UserDefinedType")}
# Forms of classes, and the contracts of the standard library.
ABSTRACT = {"Protocol", "Generic", "NamedTuple", "TypedDict", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"} | {
    "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Set",
}  # fmt: skip


class Import(NamedTuple):
    """One imported name; `at_top` if it is imported with the module, not when a function is called."""

    name: str
    line: int
    at_top: bool


class Module(NamedTuple):
    """One file: `name` without "foretell." ("face" for the package itself)."""

    name: str
    path: Path
    length: int
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        """The folder of the module, or its own name if it lies in none."""
        return self.name.partition(".")[0]


Modules = dict[str, Module]


class Layers(NamedTuple):
    """The order of the page: `ranks` by pattern, and the folders that are contracts with members."""

    ranks: dict[str, int]
    families: set[str]

    def rank(self, name: str) -> int | None:
        """The rank of the nearest pattern: the module itself, `folder.*`, then `folder`."""
        patterns = [name]
        while "." in name:
            name = name.rpartition(".")[0]
            patterns += [f"{name}.*", name]
        return next((self.ranks[pattern] for pattern in patterns if pattern in self.ranks), None)


def layers() -> Layers:
    block = re.search(r"```layers\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, "docs/architecture.md has lost its block ```layers: it is what this test enforces."
    ranks: dict[str, int] = {}
    families: set[str] = set()
    for line in block[1].splitlines():
        number, _, rungs = line.partition(" ")
        for rung in rungs.split("<"):
            rank = len(set(ranks.values()))
            ranks |= dict.fromkeys(rung.split(), rank)
        if int(number) == CONTRACTS_LAYER:
            families = set(rungs.replace("<", " ").split())
    return Layers(ranks, families)


def read(source: Path) -> Modules:
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "face"
        text = path.read_text()
        tree = ast.parse(text, filename=str(path))
        where, length = path.relative_to(source.parent), len(text.splitlines())
        modules[name] = Module(name, where, length, tree, tuple(imports(tree, parts[:-1])))
    return modules


def imports(node: ast.AST, package: tuple[str, ...], at_top: bool = True) -> Iterator[Import]:
    """All imports but those for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            here = (("foretell", *package)[: len(package) + 2 - child.level]) if child.level else ()
            base = ".".join(filter(None, (*here, child.module)))
            yield from (Import(f"{base}.{alias.name}", child.lineno, at_top) for alias in child.names)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(child, package, at_top and not is_function)


def inner(modules: Modules, imported: Import) -> str | None:
    """The module of foretell that an import reaches, or None for everybody else's."""
    head, _, name = imported.name.partition(".")
    if head != "foretell":
        return None
    first, _, rest = name.partition(".")
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or (first if rest else "face")


def is_private(name: str) -> bool:
    return name.partition(".")[2].startswith("_")


# --- the rules -------------------------------------------------------------------------------------------------------


def rule_layers(modules: Modules) -> Iterator[str]:
    """Imports point down, to the own folder's contract, or to its private helpers."""
    order = layers()
    for module in modules.values():
        if order.rank(module.name) is None:
            yield f"{module.path}:1: {module.name} is in no layer: give it a place in docs/architecture.md."
            continue
        for imported in module.imports:
            target = inner(modules, imported)
            cure = target and _forbidden(order, module, target)
            if cure:
                yield f"{module.path}:{imported.line}: {module.name} imports {target}: {cure}"


def _forbidden(order: Layers, module: Module, target: str) -> str | None:
    """Why the module may not import the target, and what to do; None if it may."""
    name, room, other = module.name, module.room, target.partition(".")[0]
    mine, theirs = order.rank(name), order.rank(target)
    if theirs is None or mine is None:
        return "it is in no layer: give it a place in docs/architecture.md."
    if room == other and "." in name + target:
        if room not in order.families or target == room or is_private(target):
            return None
        if name == room:
            return "a contract never imports its members; load them by name with _family.load."
        return None if _same_member(name, target) else "a member knows no other member; move the code to a _helper."
    if other in order.families and is_private(target):
        return f"helpers serve their own folder only; offer it in the contract, {other}/__init__.py."
    if name in CONTRACTS_ONLY and other in order.families and target != other:
        return "only contracts may be known here; load the member by name with _family.load."
    return None if theirs < mine else "imports point down the layers of docs/architecture.md; pass it in, or move it."


def _same_member(name: str, target: str) -> bool:
    return name.split(".")[1] == target.split(".")[1]


def rule_no_circles(modules: Modules) -> Iterator[str]:
    """No two modules need each other, not even inside functions."""
    graph = {
        name: {target for imported in module.imports if (target := inner(modules, imported)) not in (None, name)}
        for name, module in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        path = modules[circle[1]].path
        yield f"{path}:1: {' <- '.join(circle)} is a circle: move what they share into a module below both."


def rule_dynamic_imports(modules: Modules) -> Iterator[str]:
    """What is imported by name is found by `_family.load`."""
    for module in modules.values():
        if module.name in DYNAMIC_ROOMS:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and re.search(r"\b(import_module|__import__)$", ast.unparse(node.func)):
                where = f"{module.path}:{node.lineno}"
                yield f"{where}: an import by name: use _family.load, which explains what is missing."


def rule_frameworks(modules: Modules) -> Iterator[str]:
    """No framework is loaded that the user did not load."""
    for module in modules.values():
        for imported in module.imports:
            framework = imported.name.partition(".")[0]
            if framework in FRAMEWORKS and imported.at_top and module.room not in ("integrations", "plots"):
                yield (
                    f"{module.path}:{imported.line}: loads {framework} for everybody: move it to integrations/, "
                    f"or use sys.modules.get({framework!r})."
                )


def rule_pickle(modules: Modules) -> Iterator[str]:
    """Only a training function is pickled, and only through memory."""
    for module in modules.values():
        for imported in module.imports:
            if imported.name.partition(".")[0] in PICKLES and module.name not in PICKLE_ROOMS:
                yield (
                    f"{module.path}:{imported.line}: imports {imported.name}, which can run code on loading: "
                    "keep state as safetensors and JSON."
                )


def rule_sizes(modules: Modules) -> Iterator[str]:
    """Files and functions that fit a mind."""
    for module in modules.values():
        if module.length > LONGEST_FILE:
            yield (
                f"{module.path}:{module.length}: {module.length} lines, {LONGEST_FILE} are allowed: "
                "split it at its joints."
            )
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    yield (
                        f"{module.path}:{node.lineno}: {node.name} has {length} lines, {LONGEST_FUNCTION} are allowed: "
                        "name its parts and make them functions."
                    )


def rule_super(modules: Modules) -> Iterator[str]:
    """Nothing is inherited that would have to be called."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
            if called and module.room != "integrations":
                yield f"{module.path}:{node.lineno}: super(): hold the other object in a field instead of inheriting."


def rule_abstract_or_final(modules: Modules) -> Iterator[str]:
    """A class is abstract (a Protocol) or final, never between."""
    classes = [(module, node) for module in modules.values() for node in ast.walk(module.tree)
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    protocols = {node.name for _, node in classes if "Protocol" in map(_base_name, node.bases)}
    exceptions = {name for name, value in vars(builtins).items() if _is_exception(value)}
    for _ in classes:  # once for every generation there can be
        exceptions |= {node.name for _, node in classes if exceptions & set(map(_base_name, node.bases))}
    known = ABSTRACT | protocols | exceptions
    for module, node in classes:
        if module.room == "integrations":
            continue
        where = f"{module.path}:{node.lineno}: class {node.name}"
        for base in node.bases:
            if _base_name(base) not in known and (module.room, _base_name(base)) not in INHERITANCE:
                yield f"{where} inherits from {ast.unparse(base)}, which is no contract: hold one in a field instead."
        if not node.bases and not any(ast.unparse(mark) == "final" for mark in node.decorator_list):
            yield f"{where} is neither abstract nor final: mark it @final, or make it a Protocol."


def _base_name(base: ast.expr) -> str:
    return ast.unparse(base).partition("[")[0].rpartition(".")[2]


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def rule_sign(modules: Modules) -> Iterator[str]:
    """Everywhere but at the doors, lower is better."""
    for module in modules.values():
        # The mathematics of numerics/ knows no metric: there a minimum is a minimum, and a direction is that of a step.
        if module.name in SIGN_ROOMS or module.room == "numerics":
            continue
        for node in ast.walk(module.tree):
            for word in SIGN_WORDS & set(_identifiers(node)):
                yield (
                    f"{module.path}:{getattr(node, 'lineno', 1)}: {word!r} outside the doors: work with losses, and "
                    "let Objective.loss and Objective.value turn the sign."
                )


def _identifiers(node: ast.AST) -> Iterator[str]:
    for field in ("id", "attr", "arg", "name", "asname"):
        name = getattr(node, field, None)
        if isinstance(name, str):
            yield name.rpartition(".")[2]


Rule = Callable[[Modules], Iterator[str]]
RULES: list[Rule] = [
    rule_layers, rule_no_circles, rule_dynamic_imports, rule_frameworks, rule_pickle, rule_sizes, rule_super,
    rule_abstract_or_final, rule_sign,
]  # fmt: skip


@pytest.fixture(scope="module")
def modules() -> Modules:
    return read(SOURCE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.removeprefix("rule_"))
def test_the_house_keeps(rule: Rule, modules: Modules) -> None:
    found = list(rule(modules))
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


# --- the checker itself ----------------------------------------------------------------------------------------------

HOUSE = {
    "__init__.py": "",
    "errors.py": "class ForetellError(Exception):\n    pass\nclass SpaceError(ForetellError): ...\n",
    "space.py": "from foretell.errors import SpaceError\n",
    "trial.py": "import typing\nif typing.TYPE_CHECKING:\n    import torch\n    import foretell.study\n",
    "samplers/__init__.py": "from typing import Protocol\nclass Sampler(Protocol): ...\n",
    "samplers/_helper.py": "from foretell.samplers import Sampler\nfrom foretell import space\n",
    "samplers/tpe.py": "from . import _helper\nfrom foretell.samplers import Sampler\nfrom .. import errors\n",
    "samplers/qmc.py": "def suggest():\n    import pandas\n    from scipy.stats import qmc\n",
    "executors/_payload.py": "import cloudpickle\nclass P(cloudpickle.Pickler): ...\n",
    "integrations/torch.py": "import torch\nclass C(torch.Module):\n    def f(self):\n        super().f()\n",
    "objective.py": "from typing import final\n@final\nclass Objective:\n    direction = 'minimize'\n",
    "study.py": "from foretell.samplers import Sampler\nfrom foretell._family import load\n'direction of torch'\n",
    "_family.py": "import importlib\nimportlib.import_module('foretell.samplers.tpe')\n",
}
VIOLATIONS = [
    (rule_layers, "space.py", "\nfrom foretell.trial import Trial", 2, "point down"),
    (rule_layers, "space.py", "\ndef f():\n    import foretell.study", 3, "point down"),
    (rule_layers, "trial.py", "from foretell import study", 1, "point down"),
    (rule_layers, "trial.py", "from . import study", 1, "point down"),
    (rule_layers, "trial.py", "import foretell", 1, "point down"),
    (rule_layers, "samplers/qmc.py", "from foretell.samplers.tpe import TPE", 1, "no other member"),
    (rule_layers, "samplers/qmc.py", "from .tpe import TPE", 1, "no other member"),
    (rule_layers, "samplers/__init__.py", "from foretell.samplers import tpe", 1, "never imports its members"),
    (rule_layers, "samplers/_helper.py", "import foretell.samplers.tpe", 1, "no other member"),
    (rule_layers, "schedulers/asha.py", "import foretell.samplers.tpe", 1, "point down"),
    (rule_layers, "run.py", "from foretell.samplers import _helper", 1, "own folder only"),
    (rule_layers, "study.py", "from foretell.samplers.tpe import TPE", 1, "only contracts"),
    (rule_layers, "gadgets.py", "", 1, "a place in docs/architecture.md"),
    (rule_no_circles, "samplers/_helper.py", "import foretell.samplers.tpe", 1, "below both"),
    (rule_dynamic_imports, "space.py", "import importlib\nimportlib.import_module('torch')", 2, "_family.load"),
    (rule_frameworks, "space.py", "try:\n    import torch.nn\nexcept ImportError:\n    pass", 2, "integrations/"),
    (rule_pickle, "space.py", "def f():\n    from pickle import loads", 2, "safetensors"),
    (rule_sizes, "space.py", "\n" * 500 + "x = 1", 501, "split it"),
    (rule_sizes, "space.py", "class A:\n    def f():\n" + "        x = 1\n" * 60, 2, "make them functions"),
    (rule_super, "space.py", "def f():\n    super().f()", 2, "in a field"),
    (rule_abstract_or_final, "space.py", "class A(dict): ...", 1, "in a field"),
    (rule_abstract_or_final, "space.py", "\nclass A: ...", 2, "@final"),
    (rule_sign, "space.py", "def f(study):\n    return study.direction", 2, "losses"),
    (rule_sign, "space.py", "f(maximize=True)", 1, "losses"),
    (rule_sign, "trial.py", "\ndef minimize(): ...", 2, "losses"),
]


def build(root: Path, files: dict[str, str]) -> Modules:
    for name, code in files.items():
        path = root / "foretell" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return read(root / "foretell")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.removeprefix("rule_"))
def test_a_good_house_passes(rule: Rule, tmp_path: Path) -> None:
    assert list(rule(build(tmp_path, HOUSE))) == []


@pytest.mark.parametrize(("rule", "file", "code", "line", "cure"), VIOLATIONS)
def test_a_violation_is_named_with_its_cure(
    rule: Rule, file: str, code: str, line: int, cure: str, tmp_path: Path
) -> None:
    (message,) = rule(build(tmp_path, HOUSE | {file: code}))
    assert message.startswith(f"foretell/{file}:{line}: ")
    assert cure in message
