"""What becomes a Plan: each layer, loss, surrounding and optimizer is tried, as docs/models.md shows it."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import FedplanError, PlanError, TranslationError, UnsupportedOpError, VariantError
from fedplan.plan import Plan, check_variants, make_variant, model_parameters
from fedplan.plan.tracing import ways_out
from tests.plan.layers.agreement import EQUAL, Outcome, UnfitError, agreement, refusal
from tests.plan.layers.cases import Case, Score, classes
from tests.plan.layers.faults import plain
from tests.plan.layers.layer import Layer
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES, Loss
from tests.plan.layers.steps import Step
from tests.plan.layers.surroundings import SURROUNDINGS

VARIANTS = ("tfjs", "torchscript")
FEATURES = 6


@dataclasses.dataclass(frozen=True)
class Cell:
    """An answer such as ``yes``, and what there is to say about it."""

    answer: str
    note: str = ""


Row = tuple[Cell, ...]


def layer_or_loss(name: str) -> Row:
    """Tries it with the options that PyTorch gives it by default, then with others."""
    subject = LAYERS.get(name) or LOSSES[name]
    outcome = agreement(subject.case(subject.menu.plain()))
    found = verdict(outcome)
    others = "" if name in ALIKE or name.endswith(("1d", "3d")) else other_options(subject, outcome)
    return Cell(found.answer, "; ".join(filter(None, [found.note, others]))), *translations(outcome)


ALIKE = (
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerDecoder",
    "Transformer",
    "GRU",
    "LSTM",
    "GRUCell",
    "LSTMCell",
)
"""Layers whose options are those of another one, which is tried with each."""


def surrounding(name: str) -> Row:
    """Tries what is put around a batch norm, with an optimizer that keeps state."""
    outcome = agreement(Step(plain("BatchNorm1d"), name, "SGD with momentum and decay").case())
    return verdict(outcome), *translations(outcome)


def optimizer(name: str) -> Row:
    """Tries it with a learning rate that the worker gives, then with one that the Plan keeps."""
    if name in NO_STEPS:
        return Cell("no", NO_STEPS[name]), Cell("no", NO_STEPS[name]), Cell("–"), Cell("–")
    by_key, kept = (agreement(_training_with(name, lr)) for lr in ("lr", 0.05))
    return verdict(by_key), verdict(kept), *translations(by_key if by_key.plan else kept)


NO_STEPS = {
    "LBFGS": "it computes the loss several times a step, until it is content",
    "SparseAdam": "it is for sparse gradients, and a Plan's are dense: use Adam",
}
"""Optimizers that do not take one gradient of each parameter a step."""


def optimizers() -> list[str]:
    """Names of all that `torch.optim` has."""
    kinds = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    return sorted(n for n, k in kinds.items() if issubclass(k, torch.optim.Optimizer) and n != "Optimizer")


def _training_with(name: str, lr: str | float) -> Case:
    kind = getattr(torch.optim, name)

    def build() -> tuple[nn.Module, Score]:
        bias = name != "Muon"  # which takes matrices only
        layers = nn.Linear(FEATURES, 5, bias=bias), nn.Tanh(), nn.Linear(5, 3, bias=bias)
        return nn.Sequential(*layers), F.cross_entropy

    return Case(
        name,
        build,
        lambda rows: ([torch.randn(rows, FEATURES)], classes(rows)),
        optimizer=functools.partial(kind, lr=0.05),
        lr=lr,
    )


def verdict(outcome: Outcome) -> Cell:
    """Whether there is a Plan that does what eager PyTorch does."""
    if outcome.refusal is not None:
        return Cell("no", reason(outcome.refusal))
    wrong = [fault for fault in outcome.faults if "differs by" in fault or "constant of" in fault]
    if wrong or outcome.kind != EQUAL:
        return Cell(
            "**wrong**", "the Plan does not do what eager PyTorch does" if wrong else outcome.faults[0]
        )
    return Cell("yes")


def other_options(subject: Layer | Loss, outcome: Outcome) -> str:
    """Which options, one by one, make a Plan of what has none, or the other way round."""
    said: dict[str, list[str]] = {}
    defaults = subject.menu.plain().options
    for option, value, choice in subject.menu.one_by_one():
        if _is_number(value) and _is_number(defaults[option]):
            continue  # another number makes other values, not other operations
        try:
            why = refusal(subject.case(choice))
        except UnfitError:
            continue
        if (why is None) != (outcome.refusal is None):
            text = f"not with ({reason(why)})" if why is not None else "but with"
            said.setdefault(text, []).append(f"`{option}={_said(value)}`")
    lines = []
    for text, options in said.items():
        words, _, because = text.partition(" (")
        lines.append(f"{words} {', '.join(options)}" + (f" ({because}" if because else ""))
    return "; ".join(lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: object) -> str:
    plain = value is None or isinstance(value, str | int | float | tuple)
    return repr(value) if plain else getattr(value, "__name__", type(value).__name__)


def translations(outcome: Outcome) -> Row:
    """Whether browsers and phones can run the Plan."""
    if outcome.plan is None or outcome.model is None:
        return tuple(Cell("–") for _ in VARIANTS)
    return tuple(translation(outcome.plan, outcome.model, variant) for variant in VARIANTS)


def translation(plan: Plan, model: nn.Module, variant: str) -> Cell:
    try:
        made = make_variant(plan, variant)
        check_variants(made, model_parameters(model), variants=[variant])
    except PlanError as error:
        return Cell("no", reason(error))
    return Cell("yes")


def reason(error: FedplanError) -> str:
    """The short form of why something is refused."""
    match error:
        case TranslationError():
            why = str(error).partition(" cannot be said in ")[2].partition(". ")[2]
            if why.startswith("There is no rule"):
                return f"there is no rule for `{error.op}`"
            return _sentence(why) if error.op.startswith("random ") else f"`{error.op}`: {_sentence(why)}"
        case UnsupportedOpError():
            return f"`{error.op}`" + (f": {_sentence(error.instead)}" if error.instead else "")
        case VariantError():
            return "the translation differs from the Plan"
    text = _PLACE.sub("", str(error))
    for start, short in TOLD_SHORTLY.items():
        if start in text:
            return short
    return _sentence(text)


_PLACE = re.compile(
    r" \((?:at )?[\w.<>-]+\.py:\d+[^)]*\)"  # (at layer.py:31 in layer: Embedding)
    r"| at [\w.<>-]+\.py:\d+(?: in \w+: \w+)?"  # at layer.py:31 in layer: Embedding
    r"| in \w+: \w+(?=: )"  # in layer: Embedding
)
"""Where something stands, as messages say it: here in these modules, which tell nothing."""

TOLD_SHORTLY: Mapping[str, str] = {
    **{advice: advice.removesuffix(".") for advice in ways_out.LAYERS.values()},
    "a tensor's value is read into Python": "it reads a tensor's value into Python",
    "rows of input 0 only": "it fixes the batch size",
    "takes another path for other batch sizes": "what it does depends on the batch size",
    "and its next run depends on it": (
        "the module keeps in Python what its next run depends on; a buffer may hold it"
    ),
    "a second run of the step does something else": (
        "it keeps in Python what its next run depends on; a buffer of the model may hold it"
    ),
    "requires a gradient and is no parameter": (
        "a parameter in a list is not the one that is trained; read it where the model has it"
    ),
}


def _sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return text.partition(". ")[0].removesuffix(".")


def _not_lazy() -> list[str]:
    """A lazy layer is the one without that prefix as soon as it has run."""
    return [name for name in LAYERS if not name.startswith("Lazy") or name.removeprefix("Lazy") not in LAYERS]


TABLES: Mapping[str, tuple[tuple[str, ...], list[str], Callable[[str], Row]]] = {
    "Layers": (("layer", "Plan", "browsers (tfjs)", "phones (TorchScript)"), _not_lazy(), layer_or_loss),
    "Losses": (("loss", "Plan", "browsers (tfjs)", "phones (TorchScript)"), list(LOSSES), layer_or_loss),
    "Optimizers": (
        (
            "optimizer",
            "Plan, `lr` from the client_config",
            "Plan, `lr` a number",
            "browsers (tfjs)",
            "phones (TorchScript)",
        ),
        optimizers(),
        optimizer,
    ),
    "Around layers": (
        ("what", "Plan", "browsers (tfjs)", "phones (TorchScript)"),
        [name for name in SURROUNDINGS if name != "alone"],
        surrounding,
    ),
}
"""The tables by their headings: columns, names, and how a name is tried."""
