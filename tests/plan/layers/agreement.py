"""Whether a Plan does what eager PyTorch does, step by step, with other weights than it was traced with."""

import copy
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from fedplan.errors import FedplanError
from fedplan.plan import Plan, PlanInputSpec, RandomStream, RepeatedPlan, model_parameters, training_plan
from fedplan.plan.ops import DTYPES
from tests.plan.layers.cases import Batch, Case, Score
from tests.plan.same_numbers import DrawnMoreOftenError, SameNumbers

STEPS = 3
TOLERANCE = 1e-5
RATE = 0.05
STREAM = RandomStream(11)

EQUAL, REFUSED, CRASHED = "equal to eager", "refused", "crashed"


class UnfitError(Exception):
    """PyTorch itself does not run these options."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: one of the three constants above; `EQUAL` means so only when there are no faults.
        faults: what is wrong, in words; also what a refusal should say and does not.
        refusal: why there is no Plan.
        plan: the Plan, as a worker gets it.
        model: the model that it trains.
    """

    kind: str
    faults: tuple[str, ...] = ()
    refusal: FedplanError | None = None
    plan: Plan | None = None
    model: nn.Module | None = None


def agreement(case: Case) -> Outcome:
    """Traces a case, gives its model other weights, and holds the Plan against eager PyTorch.

    Each batch size gets three steps; loss, parameters and buffers are compared after each.

    Raises:
        UnfitError: PyTorch itself does not run it.
    """
    _check_that_eager_runs(case)
    torch.manual_seed(case.seed)
    model, score = case.build()
    renew(model, counts=(1000, 9999), truth=True)  # numbers that no constant has by chance
    example = case.batch(case.rows[0])
    before = Snapshot(model)
    try:
        plan = _plan(case, model, score, example)
    except FedplanError as refusal:
        faults = [*before.faults(model), *_unsaid(refusal, model)]
        return Outcome(REFUSED, tuple(faults), refusal, model=model)
    except Exception as error:  # noqa: BLE001  # which ones there are is what is asked
        return Outcome(CRASHED, (f"a raw {type(error).__name__}: {error}",), model=model)
    faults = [*before.faults(model), *_frozen(plan, case, model, score)]
    faults += _differences(plan, case, model, score)
    return Outcome(EQUAL, tuple(faults), plan=plan, model=model)


def refusal(case: Case) -> FedplanError | None:
    """Why a case cannot become a Plan; None when it can, or would crash.

    Raises:
        UnfitError: PyTorch itself does not run it.
    """
    _check_that_eager_runs(case)
    torch.manual_seed(case.seed)
    model, score = case.build()
    try:
        _plan(case, model, score, case.batch(case.rows[0]))
    except FedplanError as error:
        return error
    return None


def _plan(case: Case, model: nn.Module, score: Score, example: Batch) -> Plan:
    data, target = example
    plan = training_plan(
        model,
        score,
        example=(data[0] if len(data) == 1 else data, target),
        optimizer=case.optimizer,
        lr=case.lr,
    )
    return Plan.parse(plan.serialize())  # as a worker gets it


@torch.no_grad()
def renew(model: nn.Module, counts: tuple[int, int], truth: bool) -> None:
    """Gives every parameter and buffer of a module other values, in place.

    Args:
        model: the module.
        counts: integers are drawn from the first of these to below the second.
        truth: what boolean buffers become: True before tracing, and False before running.
    """
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape) * _scale(parameter))
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape) + 0.5)  # a variance, for one, is not negative
        elif buffer.dtype == torch.bool:
            buffer.fill_(truth)
        else:
            buffer.copy_(torch.randint(*counts, buffer.shape))


def _scale(parameter: torch.Tensor) -> float:
    """Smaller for wide layers: rounding alone leaves too few digits of a loss in the thousands."""
    width = parameter.numel() // parameter.shape[0] if parameter.dim() > 1 and parameter.numel() else 1
    return 0.5 * min(1.0, math.sqrt(12 / width))


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, those that a state_dict leaves out too."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


class Snapshot:
    """What tracing must leave as it is: values, gradients, flags, and attributes without stand-ins."""

    def __init__(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        self.copies = _can_be_copied(model)
        self.values = {name: t.detach().clone() for name, t in tensors_of(model).items()}
        self.flags = _flags(model)
        self.attributes = _plain_attributes(model)
        self.gradients = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}
        self.random = torch.get_rng_state()

    def faults(self, model: nn.Module) -> Iterator[str]:
        """What is not as it was."""
        now = tensors_of(model)
        if now.keys() != self.values.keys():
            yield "tracing changed which tensors the model has"
        for name in now.keys() & self.values.keys():
            if not _bits(now[name], self.values[name]):
                yield f"tracing changed '{name}'"
        if _flags(model) != self.flags:
            yield "tracing changed what requires a gradient"
        attributes = _plain_attributes(model)
        for name in attributes.keys() | self.attributes.keys():
            if attributes.get(name) != self.attributes.get(name):
                yield f"tracing changed '{name}'"
        parameters = dict(model.named_parameters())
        for name, (gradient, value) in self.gradients.items():
            now_there = parameters[name].grad if name in parameters else gradient
            if now_there is not gradient or not torch.equal(gradient, value):
                yield f"tracing changed the gradient of '{name}'"
        for name, module in model.named_modules():
            left = [key for key, value in vars(module).items() if _holds_stand_in(value)]
            if left:
                yield f"tracing left a FakeTensor in '{'.'.join(filter(None, [name, left[0]]))}'"
        if self.copies and not _can_be_copied(model):
            yield "the model cannot be copied after tracing"
        if not torch.equal(torch.get_rng_state(), self.random):
            yield "tracing drew from the random generator"


def _holds_stand_in(value: object) -> bool:
    return any(isinstance(leaf, FakeTensor) for leaf in pytree.tree_leaves(value))


def _bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.detach(), other)


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: t.requires_grad for name, t in tensors_of(model).items()}


def _plain_attributes(model: nn.Module) -> dict[str, object]:
    """Numbers, texts and the like that modules keep, `training` among them, by name."""
    return {
        ".".join(filter(None, [name, key])): value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, int | float | str)
    }


def _can_be_copied(model: nn.Module) -> bool:
    try:
        copy.deepcopy(model)
    except RuntimeError:
        return False
    return True


def _check_that_eager_runs(case: Case) -> None:
    """Tries two steps at every batch size; options that PyTorch refuses are no case."""
    torch.manual_seed(case.seed)
    for rows in case.rows:
        try:
            model, score = case.build()
            optimizer = case.optimizer([p for p in model.parameters() if p.requires_grad])
            losses = [eager_step(model, score, optimizer, *case.batch(rows)) for _ in range(2)]
        except (
            RuntimeError,
            ValueError,
            TypeError,
            AssertionError,
            IndexError,
            NotImplementedError,
        ) as error:
            raise UnfitError(f"{case}: {type(error).__name__}: {error}") from error
        if not all(loss.isfinite() for loss in losses):
            raise UnfitError(f"{case}: the loss is not finite")


def eager_step(
    model: nn.Module,
    score: Score,
    optimizer: torch.optim.Optimizer,
    data: Sequence[torch.Tensor],
    target: torch.Tensor,
) -> torch.Tensor:
    """One step as people write it; returns the loss."""
    optimizer.zero_grad()
    loss = score(model(*data), target)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _frozen(plan: Plan, case: Case, model: nn.Module, score: Score) -> Iterator[str]:
    """Tensors that training writes and that are constants of the Plan."""
    before = {name: t.detach().clone() for name, t in tensors_of(model).items()}
    eager_step(model, score, _optimizer(case, model), *case.batch(case.rows[0]))
    for name, tensor in tensors_of(model).items():
        written = not torch.equal(tensor, before[name]) and tensor.dtype != torch.bool
        if written and any(_bits(constant, before[name]) for constant in plan.state):
            yield f"'{name}', which training writes, is a constant of the Plan"


def _optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = case.optimizer([p for p in model.parameters() if p.requires_grad])
    for group in optimizer.param_groups:
        group["lr"] = RATE if isinstance(case.lr, str) else case.lr
    return optimizer


def _differences(plan: Plan, case: Case, model: nn.Module, score: Score) -> Iterator[str]:
    """Gives the model other values and trains it, eagerly and by the Plan, on the same batches."""
    for rows in case.rows[1:]:
        renew(model, counts=(1, 6), truth=False)
        optimizer = _optimizer(case, model)
        ours = [t.clone() for t in model_parameters(model)]
        kept = _zeros(plan)
        worker: RepeatedPlan | None = None
        for step in range(1, STEPS + 1):
            batch = case.batch(rows)
            numbers = plan.draw(STREAM, rows, step=step)
            try:
                with SameNumbers(numbers) as eager:
                    theirs = eager_step(model, score, optimizer, *batch)
            except DrawnMoreOftenError as error:
                yield f"eager PyTorch differs by chance: {error}"
                return
            if eager.used != len(numbers):
                yield f"the Plan differs by chance: it draws {len(numbers)} times, not {eager.used} times"
                return
            try:
                arguments = _arguments(plan, batch, ours, kept)
                worker = worker or _as_workers_run_it(plan, [*arguments, *numbers])
                loss, ours, kept = _outputs(plan, plan(*arguments, random=STREAM, step=step))
                _, trained, _ = _outputs(plan, worker([*batch[0], batch[1], *numbers]))
            except Exception as error:  # noqa: BLE001  # a Plan that was made must run
                yield f"with {rows} rows the Plan fails: {type(error).__name__}: {error}"
                return
            pairs = zip([theirs, *model_parameters(model)], [loss, *ours], strict=True)
            apart = [difference(expected, found) for expected, found in pairs]
            if max(apart) > TOLERANCE:
                name = ["the loss", *_names(model)][apart.index(max(apart))]
                yield f"{name} differs by {max(apart):.2g} after step {step} with {rows} rows"
                return
            apart = [difference(one, other) for one, other in zip(ours, trained, strict=True)]
            if max(apart, default=0.0) > TOLERANCE:
                name = _names(model)[apart.index(max(apart))]
                yield f"{name} differs by {max(apart):.2g} where a worker runs the Plan, after step {step}"
                return


def _names(model: nn.Module) -> list[str]:
    known = {id(t.untyped_storage()): name for name, t in tensors_of(model).items()}
    return [known.get(id(t.untyped_storage()), "?") for t in model_parameters(model)]


def _zeros(plan: Plan) -> list[torch.Tensor]:
    kept = [i for i in plan.inputs if i.spec and i.spec.type == PlanInputSpec.TYPE_OPTIMIZER_STATE]
    return [torch.zeros([e or 0 for e in i.shape or ()], dtype=DTYPES[i.dtype or ""]) for i in kept]


def _arguments(
    plan: Plan, batch: Any, parameters: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    data, target = batch
    lists = {
        PlanInputSpec.TYPE_DATA: data,
        PlanInputSpec.TYPE_TARGET: [target],
        PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM: [torch.tensor([RATE])],
        PlanInputSpec.TYPE_MODEL_PARAM: parameters,
        PlanInputSpec.TYPE_OPTIMIZER_STATE: kept,
    }
    return [lists[s.type][s.index or 0] for s in plan.input_specs or [] if s.type in lists]


def _as_workers_run_it(plan: Plan, arguments: Sequence[torch.Tensor]) -> RepeatedPlan:
    """The Plan with parameters of its own, which it updates where they stand."""
    specs, returned = plan.input_specs or [], plan.output_specs or []
    made = {(spec.type, spec.index): place for place, spec in enumerate(returned)}
    varying = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET, PlanInputSpec.TYPE_RANDOM)
    keys = [(spec.type, spec.index) for spec in specs]
    return RepeatedPlan(
        plan,
        [argument.clone() for argument in arguments],
        varying=[place for place, (kind, _) in enumerate(keys) if kind in varying],
        carried={place: made[key] for place, key in enumerate(keys) if key in made},
        fixed=[
            place for place, (kind, _) in enumerate(keys) if kind == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM
        ],
    )


def _outputs(
    plan: Plan, made: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """(loss, model, optimizer state)"""
    lists: dict[str, list[torch.Tensor]] = {"loss": [], "modelParam": [], "optimizerState": []}
    for spec, value in zip(plan.output_specs or [], made, strict=True):
        lists[spec.type].append(value)
    return lists["loss"][0], lists["modelParam"], lists["optimizerState"]


def difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The greatest difference of two numbers, relative to the largest one where that is above one."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if not expected.numel():
        return 0.0
    one, other = expected.detach().double(), found.double()
    apart = torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).abs())
    if apart.isnan().any():
        return float("inf")
    finite = one[one.isfinite()].abs()
    return float(apart.max()) / max(1.0, float(finite.max()) if finite.numel() else 1.0)


_LINE = re.compile(r"\b([\w.<>-]+\.py):\d+")


def _unsaid(refusal: FedplanError, model: nn.Module) -> Iterator[str]:
    """What a refusal should say and does not: an operation or layer, and a line."""
    text = str(refusal)
    names = {type(module).__name__ for module in model.modules()}
    if not _LINE.search(text):
        yield f"the refusal does not say in which line: {text}"
    if "aten." not in text and not any(name in text for name in names):
        yield f"the refusal does not say which operation or layer: {text}"
