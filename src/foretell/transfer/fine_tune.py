"""Fine-tune a model that already knows something: what trains when, at what rate, and how far from the start."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule, resumed, saved
from foretell.transfer import TransferError, _moments, _phases, _stages
from foretell.transfer._phases import Norms, Policy
from foretell.trial import Verdict

if TYPE_CHECKING:
    from foretell.run import Run

__all__ = ["FineTune"]

_NEVER = "never"


@final
class FineTune:
    """Trains the head of a torch model first, then what lies below it, layer by layer at lower rates.

    Every tensor that may train is in one group of `optimizer` from the start, each block in a group of its own, and
    phases set `requires_grad`; so schedules see the same groups all the time, and moments stay with their tensor. A
    phase ends when its patience does, or at its largest share of the epochs, and gives back its best weights and
    moments; the last one lasts as long as the run. Tensors that were frozen before (the base of a model of `peft`) stay
    so, and frozen blocks are in evaluation mode whenever the model is called within `epochs`.

    Args:
        model: a torch module that has the source's weights, e.g. by `map_weights`; or a model of `peft`.
        optimizer: makes the optimiser from groups: `torch.optim.AdamW`, or a function of them.
        lr: rate of the head, > 0.
        head: its modules or tensors, e.g. "fc"; None takes the last block.
        policy: "probe_then_all" (the head alone, then everything), "gradual" (one block more each phase), "all" (from
            the start), or "probe" (the head alone).
        patience: checks without improvement that end a phase, >= 1, or a stopping rule.
        share: of the epochs, that the phases before the last take at most together, in (0, 1]; None takes 0.1 for a
            probe and 0.5 for a gradual thaw.
        frozen: blocks from the input on that never train: how many, or a share below 1.
        decay: of the rate from block to block towards the input, in (0, 1].
        l2_sp: strength of the pull of the backbone to its weights at the start, >= 0.
        norms: batch norms of the backbone normalise by the batch and learn its statistics once their block trains
            ("train"), or always by the source's statistics ("eval", for batches of less than about 16), or these with
            weights that do not train either ("frozen").
        blocks: paths of the backbone's blocks from input to output, each one or several; None finds them.

    Raises:
        TransferError: something is out of range, not in the model, or no tensor would train.

    Source: Kumar et al., Fine-Tuning Can Distort Pretrained Features, 2022 (probe first); Howard and Ruder, Universal
        Language Model Fine-tuning, 2018 (rates by layer, gradual); Li et al., Explicit Inductive Bias for Transfer
        Learning, 2018 (L2-SP: alpha/2 * |w - w0|²).
    """

    def __init__(  # noqa: PLR0913 - what a fine-tuning can be told, all of it by name
        self,
        model: Any,
        optimizer: Callable[[list[dict[str, Any]]], Any],
        *,
        lr: float,
        head: str | Sequence[str] | None = None,
        policy: Policy = "probe_then_all",
        patience: int | StoppingRule = 3,
        share: float | None = None,
        frozen: float = 0,
        decay: float = 0.75,
        l2_sp: float = 0.0,
        norms: Norms = "train",
        blocks: _stages.Given | None = None,
    ) -> None:
        torch: Any = sys.modules.get("torch")
        if torch is None or not isinstance(model, torch.nn.Module):
            raise TransferError(f"FineTune trains torch modules, and the model is a {type(model).__name__}.")
        if not callable(optimizer):
            raise TransferError(
                "Give the optimiser's class, as in FineTune(model, torch.optim.AdamW, ...), not one made."
            )
        _phases.check({"lr": lr, "decay": decay, "share": share, "l2_sp": l2_sp, "norms": norms})
        self.model, self.phase = model, 0
        self.decisions: list[Verdict] = []
        self._rule, self._share, self._norms, self._l2_sp = _phases.rule_of(patience), share, norms, l2_sp
        self._head, self._blocks = _stages.divide(model, head, blocks)
        self._deep: set[int] = set()  # blocks that never train, by their place
        self._groups, self._still = self._grouped(frozen, policy)
        self._phases = _phases.phases(policy, len(self._groups) - 1)
        self.optimizer = _moments.made(
            optimizer, self._groups, [lr * decay**place for place in range(len(self._groups))]
        )
        head_tensors = self._groups[self._head.name]
        backbone = {name: tensor for name, tensor in self._tensors().items() if name not in head_tensors}
        self._anchors: dict[str, Any] = _moments.copied(backbone) if l2_sp else {}
        self._rule_state = self._rule.init()
        self._began, self._due = 0, ""  # epochs behind when the phase began; why it is over
        self._best: int | None = None  # the phase's best epoch
        self._kept: dict[str, Any] = {}  # its weights and moments, once the model has gone on from there
        self._held: list[Any] = []
        self._restored = self._model_restored = False
        self._enter(0)
        _watch(self)

    # ------------------------------------------------------------------ what a user reads

    @property
    def rates(self) -> dict[str, float]:
        """The present rate of each group: the head, then the blocks from the output to the input."""
        return {group["name"]: float(group["lr"]) for group in self.optimizer.param_groups}

    @property
    def trainable(self) -> list[str]:
        """The names of the tensors that train in the present phase."""
        return [name for group in self._free for name in self._groups[group]]

    @property
    def phases(self) -> tuple[int, ...]:
        """How many blocks train besides the head in each phase."""
        return self._phases

    def __str__(self) -> str:
        steps = ", ".join("the head" if not free else f"the head and {free} blocks" for free in self._phases)
        lines = [f"phase {self.phase + 1} of {len(self._phases)}: {steps}"]
        free = self._free
        for name, lr in self.rates.items():
            tensors = self._groups[name].values()
            count, state = sum(tensor.numel() for tensor in tensors), "trains" if name in free else "waits"
            lines.append(f"{name}: {len(tensors)} tensors, {count:,} weights, lr {lr:.3g}, {state}")
        if self._still:
            lines.append(f"never train: {sum(t.numel() for t in self._still.values()):,} weights")
        return "\n".join([*lines, *(verdict.reason for verdict in self.decisions)])

    # ------------------------------------------------------------------ what a user calls

    def epochs(self, run: Run, n: int, *, start: int = 0) -> Iterator[int]:
        """The epochs of `run.epochs`; between them, phases that are over give way to the next.

        Args:
            run: it must track both, run.track(model=model, tune=tune), to be paused or to get its best weights back.
            n: epochs of the full training.
            start: number of the first epoch.

        Raises:
            TransferError: the run has no metric to end a phase by, or was resumed without its model.
        """
        if len(self._phases) > 1 and run._objective is None:
            raise TransferError("Phases end by a metric: give the run one, as in ft.Run(minimize='val_loss').")
        if self._restored and not self._model_restored and run.resumed:
            raise TransferError("The fine-tuning was restored, but not its model: run.track(model=model, tune=tune).")
        hook = self.model.register_forward_pre_hook(_holding(weakref.ref(self)))
        loop: Any = run.epochs(n, start=start)
        try:
            with contextlib.closing(loop):
                for epoch in loop:
                    self._advance(epoch)
                    yield epoch
                    self._judge(run, epoch + 1, n)
        finally:
            hook.remove()

    def merged(self) -> Any:
        """The plain model of one of `peft`, with the adapters merged into its weights.

        Raises:
            TransferError: the model has no adapters.
        """
        merge = getattr(self.model, "merge_and_unload", None)
        if merge is None:
            raise TransferError(
                "Only a model of peft has adapters to merge: peft.get_peft_model(model, config) makes one."
            )
        return merge()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, moments and rates by name, the phase's best, and the weights of the start for L2-SP."""
        return {
            "blocks": [*self._groups], "phase": self.phase, "began": self._began, "due": self._due, "best": self._best,
            "rule": saved(self._rule, self._rule_state),
            "decisions": [verdict.to_json() for verdict in self.decisions],
            "settings": _moments.settings(self.optimizer),
            "moments": {_moments.kind(self.optimizer): _moments.moments(self.optimizer, self._tensors())},
            "kept": self._kept,
            "anchors": self._anchors,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; moments come back to the tensors of their names.

        Raises:
            TransferError: it is that of other blocks, phases or another optimiser.
        """
        if state_dict["blocks"] != [*self._groups] or not 0 <= state_dict["phase"] < len(self._phases):
            raise TransferError(
                f"The state is one of the groups {state_dict['blocks']}, and here are {[*self._groups]}: build the "
                "model and FineTune with the same arguments as then."
            )
        moments = state_dict["moments"].get(_moments.kind(self.optimizer))
        if moments is None:
            raise TransferError(
                f"The state is one of {', '.join(state_dict['moments'])}, and the optimiser is "
                f"{_moments.kind(self.optimizer)}: take the same class as then."
            )
        tensors = self._tensors()
        _moments.set_settings(self.optimizer, state_dict["settings"])
        _moments.set_moments(self.optimizer, moments, tensors)
        self._began, self._due, self._best = (state_dict[key] for key in ("began", "due", "best"))
        self._kept = _moments.copied(state_dict["kept"]) if self._best is not None else {}
        self._anchors = {name: start.to(tensors[name].device) for name, start in state_dict["anchors"].items()}
        self.decisions = [Verdict.from_json(dict(one)) for one in state_dict["decisions"]]
        self._rule_state = resumed(self._rule, state_dict["rule"], Curve())
        self._restored = True
        self._enter(state_dict["phase"])

    # ------------------------------------------------------------------ phases

    def _advance(self, trained: int) -> None:
        """The next epoch begins, `trained` lie behind."""
        if self._due:
            self._end_phase(trained)
        elif self.phase + 1 < len(self._phases) and self._best == trained:  # the last to see it before it goes on
            tensors = {name: tensor for group in self._free for name, tensor in self._groups[group].items()}
            weights = {**tensors, **dict(self.model.named_buffers())}
            self._kept = _moments.copied({"weights": weights, "moments": _moments.moments(self.optimizer, tensors)})

    def _end_phase(self, trained: int) -> None:
        free = self._free
        words = self._due
        if self._best is not None and self._best != trained:
            live = {**self._tensors(), **dict(self.model.named_buffers())}
            with sys.modules["torch"].no_grad():
                for name, value in self._kept["weights"].items():
                    live[name].copy_(value)
            names = {name: tensor for group in free for name, tensor in self._groups[group].items()}
            _moments.set_moments(self.optimizer, self._kept["moments"], names)
            words += f"; best weights of epoch {self._best} restored"
        self._began, self._best, self._due, self._kept = trained, None, "", {}
        self._rule_state = self._rule.init()
        self._enter(self.phase + 1)
        fresh = [group for group in self._free if group not in free]
        also = f"{fresh[0]} trains too" if len(fresh) == 1 else f"{fresh[-1]} to {fresh[0]} train too"
        self.decisions.append(Verdict("continue", "fine_tune", f"{words}: {also}", step=trained))

    def _judge(self, run: Run, step: int, n: int) -> None:
        """After an epoch: is its phase over? What follows from it waits for the next epoch, behind any pause."""
        if self.phase + 1 == len(self._phases):
            return
        curve = Curve(point for point in run.curve if point.step > self._began)
        most = _phases.longest(self._share, len(self._phases) - 1, n)
        if len(curve) and curve.last.step == step:
            if curve.best_step == step:
                self._best, self._kept = step, {}
            self._rule_state = self._rule.update(self._rule_state, Report(*curve.last, dict(run._pending.values)))
            assert run._objective is not None
            verdict = self._rule.check(curve, self._rule_state, RunContext(run._objective, most, run.schedule))
            self._due = verdict.reason if verdict.stop else ""
        if not self._due and step - self._began >= most:
            self._due = f"phase {self.phase + 1} has had its {most} epochs, at epoch {step}"

    @property
    def _free(self) -> list[str]:
        """The groups that train in the present phase."""
        return [*self._groups][: 1 + self._phases[self.phase]]

    def _enter(self, phase: int) -> None:
        before, self.phase = self._held, phase
        free = set(self._free)
        for group, tensors in self._groups.items():
            for tensor in tensors.values():
                tensor.requires_grad_(group in free)
                if group not in free:
                    tensor.grad = None
        waits = self._groups.keys() - free
        waiting = self._deep | {index for index, block in enumerate(self._blocks) if block.name in waits}
        frozen = [module for path, module in self.model.named_modules() if self._place(path) in waiting]
        norms = [module for path, module in _stages.statistics(self.model) if self._place(path) != -1]
        self._held = frozen + (norms if self._norms != "train" else [])
        for module in before:  # what is set free follows the model again, though nobody may call model.train() anew
            module.training = self.model.training

    # ------------------------------------------------------------------ groups

    def _place(self, path: str) -> int | None:
        return _stages.place(path, self._head, self._blocks)

    def _tensors(self) -> dict[str, Any]:
        return {name: tensor for tensors in self._groups.values() for name, tensor in tensors.items()}

    def _grouped(self, frozen: float, policy: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Tensors by group, the head first and the input last, each once by identity; and those that never train."""
        norms = [module for path, module in _stages.statistics(self.model) if self._place(path) != -1]
        still = {id(tensor) for module in norms for tensor in module.parameters()} if self._norms == "frozen" else set()
        groups: dict[int, dict[str, Any]] = {place: {} for place in (-1, *reversed(range(len(self._blocks))))}
        never = {}
        for name, tensor in self.model.named_parameters():  # what is tied comes once, under its first name
            place = self._place(name)
            if not tensor.requires_grad:
                continue
            if id(tensor) in still:
                never[name] = tensor
            elif place is None:
                raise TransferError(f"{name} is in no block: name the module that holds it in blocks=, or in head=.")
            else:
                groups[place][name] = tensor
        filled = [place for place in sorted(groups) if place >= 0 and groups[place]]
        if not filled and policy in ("probe_then_all", "gradual"):
            raise TransferError(
                f"Behind the head {self._head.name!r} no tensor may train, so policy={policy!r} has nothing to set "
                "free: let requires_grad be True there, or take policy='probe'."
            )
        for place in filled[: _phases.depth(frozen, len(filled))]:
            never |= groups.pop(place)
            self._deep.add(place)
        for tensor in never.values():
            tensor.requires_grad_(False)
        if not groups[-1]:
            raise TransferError(
                f"The head {self._head.name!r} has no tensor of its own that may train (tied ones belong to where they "
                "come first): name the head's modules in head=."
            )
        names = {place: self._head.name if place < 0 else self._blocks[place].name for place in groups}
        return {names[place]: tensors for place, tensors in groups.items() if tensors}, never


def _holding(weak: weakref.ref[FineTune]) -> Callable[..., None]:
    def before(module: Any, args: Any) -> None:
        """Whoever called model.train(), frozen blocks and batch norms are what they are to be."""
        tune = weak()
        if tune is not None and module is tune.model and module.training:  # a copy of the model is not ours
            for held in tune._held:
                held.training = False

    return before


def _watch(tune: FineTune) -> None:
    """Pull towards the start before each step of the optimiser, and see when the model's weights are loaded."""
    weak = weakref.ref(tune)

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        living = weak()
        if living is not None and optimizer is living.optimizer:
            scale = getattr(optimizer, "grad_scale", None)  # a fused optimiser unscales within its step
            _moments.pull(living._tensors(), living._anchors, living._l2_sp * (1.0 if scale is None else float(scale)))

    def loaded(module: Any, keys: Any) -> None:
        living = weak()
        if living is not None:
            living._model_restored = True

    tune.model.register_load_state_dict_post_hook(loaded)
    if tune._anchors:
        tune.optimizer.register_step_pre_hook(before)
