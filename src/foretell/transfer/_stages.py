"""A torch module as blocks from its input to its output, and the head behind them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from foretell.errors import did_you_mean
from foretell.transfer import TransferError
from foretell.transfer._names import normalised

Given = Sequence[str | Sequence[str]]


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Layers that are frozen and set free together.

    Args:
        name: of its first module.
        paths: modules (or tensors) that belong to it with all that is in them.
        own: modules of which it has the tensors they hold themselves, but not their children.
    """

    name: str
    paths: tuple[str, ...]
    own: tuple[str, ...] = ()


def divide(model: Any, head: str | Sequence[str] | None, given: Given | None) -> tuple[Block, list[Block]]:
    """The head, and the blocks of the backbone from the input to the output.

    Blocks are the elements of the model's stacks (Sequential, ModuleList) and the modules beside them; norms belong to
    the block before them. Without a word on the head, it is the last block.

    Args:
        model: a torch module.
        head: paths of modules or tensors, with or without what wrappers add.
        given: the blocks, each as one path or several; None finds them.

    Raises:
        TransferError: a path is not there.
    """
    known = _known(model)
    blocks = _found(model) if given is None else [_named(known, paths, "blocks") for paths in given]
    if head is None:
        if not blocks:
            raise TransferError("The model has no tensors, so there is nothing to fine-tune: build its layers first.")
        return blocks[-1], blocks[:-1]
    named = _named(known, head, "head")
    return named, [block for block in blocks if not set(block.paths) <= set(named.paths)]


def place(name: str, head: Block, blocks: Sequence[Block]) -> int | None:
    """Which block a tensor or module belongs to by its path: -1 is the head, None is nowhere."""
    if _depth(name, head.paths) >= 0:
        return -1
    depths = [_depth(name, block.paths) for block in blocks]
    if depths and max(depths) >= 0:
        return depths.index(max(depths))
    owner = name.rpartition(".")[0]
    return next((index for index, block in enumerate(blocks) if owner in block.own), None)


def statistics(model: Any) -> list[tuple[str, Any]]:
    """The modules that normalise by running statistics, with their paths."""
    base = sys.modules["torch"].nn.modules.batchnorm._NormBase
    return [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, base) and module.running_mean is not None
    ]


def _depth(name: str, paths: Iterable[str]) -> int:
    """How long the longest of the paths is that the name lies under; -1 if it lies under none."""
    return max((len(path) for path in paths if path in ("", name) or name.startswith(f"{path}.")), default=-1)


def _known(model: Any) -> list[str]:
    return [path for path, _ in model.named_modules() if path] + [name for name, _ in model.named_parameters()]


def _named(known: list[str], given: str | Sequence[str], argument: str) -> Block:
    paths = []
    for path in (given,) if isinstance(given, str) else given:
        fitting = [path] if path in known else [one for one in known if normalised(one) == path]
        if not fitting:
            raise TransferError(f"{argument} names {path!r}, which the model has not. {did_you_mean(path, known)}")
        paths.append(min(fitting, key=len))
    if not paths:
        raise TransferError(f"{argument} is empty: name at least one module, as in {argument}='{known[-1]}'.")
    return Block(paths[0], tuple(paths))


def _found(model: Any) -> list[Block]:
    blocks: list[Block] = []
    own: list[str] = []
    for path, module in _parts(model):
        if module is None:  # tensors that a container holds itself go with what it contains first
            own.append(path)
        elif blocks and not own and _is_norm(module):
            blocks[-1] = Block(blocks[-1].name, (*blocks[-1].paths, path), blocks[-1].own)
        else:
            blocks.append(Block(path or "(model)", (path,), tuple(own)))
            own = []
    if own:
        blocks.append(Block(own[0] or "(model)", (), tuple(own)))
    return blocks


def _parts(root: Any) -> Iterator[tuple[str, Any]]:
    """The modules to be blocks, in the order they were registered; with None, paths of tensors held by containers."""
    stack: list[tuple[str, Any, bool, bool]] = [("", root, True, False)]
    while stack:
        path, module, is_root, in_stack = stack.pop()
        children = [(name, child) for name, child in module.named_children() if _holds(child)]
        has_own = bool(module._parameters or module._buffers)
        if not children or not (is_root or _is_stack(module) or (not in_stack and _contains_stack(module))):
            yield path, module
            continue
        if has_own:
            yield path, None
        alone = is_root and len(children) == 1 and not has_own
        stack += [
            (f"{path}.{name}" if path else name, child, alone, _is_stack(module)) for name, child in reversed(children)
        ]


def _is_stack(module: Any) -> bool:
    nn = sys.modules["torch"].nn
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _contains_stack(module: Any) -> bool:
    """Whether something in it stacks at least two blocks of one kind."""
    for inner in module.modules():
        if _is_stack(inner):
            kinds = [type(child) for child in inner if _holds(child) and next(child.children(), None) is not None]
            if len(kinds) > len(set(kinds)):
                return True
    return False


def _holds(module: Any) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None


def _is_norm(module: Any) -> bool:
    leaves = [one for one in module.modules() if one._parameters or one._buffers]
    norms = sys.modules["torch"].nn.modules.batchnorm._NormBase
    return all(isinstance(one, norms) or type(one).__name__.endswith("Norm") for one in leaves)
