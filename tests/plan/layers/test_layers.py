"""Whatever PyTorch trains becomes a Plan that does the same, or is refused with the reason.

Every layer and every loss of `torch.nn` is tried with random options, shapes, surroundings and optimizers.
The model gets other weights between tracing and running, so what a Plan took for a constant shows.

A short run takes one random example of each, always the same one. The plain ones, with all options as
PyTorch has them by default, are those of docs/models.md. A long run takes as many examples as fit into some
minutes of one processor, other ones each time: ``FEDPLAN_LAYERS_MINUTES=30 scripts/test tests/plan/layers``.
"""

import inspect
import os
import warnings
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from torch import nn

from fedplan.errors import FedplanError
from fedplan.plan import training_plan
from tests.plan.layers.agreement import UnfitError, agreement
from tests.plan.layers.faults import MENDED, plain
from tests.plan.layers.layer import RECURRENT, Layer
from tests.plan.layers.layers import LAYERS, NOT_LAYERS
from tests.plan.layers.losses import LOSSES, Loss
from tests.plan.layers.steps import Step, steps
from tests.plan.layers.surroundings import SURROUNDINGS

MINUTES = float(os.environ.get("FEDPLAN_LAYERS_MINUTES", "0"))
SECONDS_PER_EXAMPLE = 0.6
EXAMPLES = max(2, round(MINUTES * 60 / SECONDS_PER_EXAMPLE / len({**LAYERS, **LOSSES})))
LEAST_OF_RECURRENT = 6 if MINUTES else 3
"""Examples of layers in which what is drawn depends on two options together."""

random_steps = settings(
    derandomize=not MINUTES,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # examples are readable without being shrunk: options have few values
    suppress_health_check=list(HealthCheck),
)


def faults(step: Step, tally: Counter[str]) -> list[str]:
    """What is wrong with a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about options; the same with and without fedplan
        try:
            outcome = agreement(step.case())
        except UnfitError:
            tally["options that PyTorch refuses"] += 1
            reject()
    tally[outcome.kind] += 1
    return list(outcome.faults)


def check(subject: Layer | Loss, tally: Counter[str]) -> None:
    plainest = Step(subject.menu.plain())  # with which hypothesis begins

    examples = max(EXAMPLES, LEAST_OF_RECURRENT) if plainest.choice.of in RECURRENT else EXAMPLES

    @settings(random_steps, max_examples=examples)
    @given(steps(subject))
    def agrees(step: Step) -> None:
        if step == plainest and not MINUTES:
            return
        found = faults(step, tally)
        assert not found, f"{step}: {'; '.join(found)}"

    agrees()


@pytest.mark.some(12)
@pytest.mark.timeout(max(300, MINUTES * 60))
@pytest.mark.parametrize("name", LAYERS)
def test_a_plan_of_a_layer_equals_eager_or_is_refused(name: str, tally: Counter[str]) -> None:
    check(LAYERS[name], tally)


@pytest.mark.some(12)
@pytest.mark.timeout(max(300, MINUTES * 60))
@pytest.mark.parametrize("name", LOSSES)
def test_a_plan_of_a_loss_equals_eager_or_is_refused(name: str, tally: Counter[str]) -> None:
    check(LOSSES[name], tally)


@pytest.mark.some(12)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_what_is_put_around_a_layer_is_part_of_the_plan_or_refused(
    surrounding: str, tally: Counter[str]
) -> None:
    step = Step(plain("BatchNorm1d"), surrounding, "SGD with momentum and decay")
    found = faults(step, tally)
    assert not found, f"{step}: {'; '.join(found)}"


@pytest.mark.some(6)
@pytest.mark.parametrize("what", MENDED)
def test_a_fault_stays_mended(what: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = agreement(MENDED[what].case())
    assert not outcome.faults


def modules_of_torch() -> list[str]:
    """Names of all modules that `torch.nn` has."""
    return [name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)]


def test_every_module_of_torch_nn_is_tried_or_is_no_layer_for_a_reason() -> None:
    tried = [*LAYERS, *LOSSES, *NOT_LAYERS]
    assert sorted(tried) == sorted(modules_of_torch())


@pytest.mark.parametrize("table", [LAYERS, LOSSES], ids=["layers", "losses"])
def test_every_option_of_a_layer_is_tried(table: dict[str, Layer | Loss]) -> None:
    """A new option of a new PyTorch is noticed."""
    missing = {
        f"{name}: {option}"
        for name, subject in table.items()
        for option in options_of(getattr(nn, name)) - subject.menu.options.keys() - LEFT_OUT.get(name, set())
    }
    assert not missing


NOT_TRIED = {"device", "dtype", "args", "kwargs", "size_average", "reduce"}
"""Where a layer is placed; options that are gone."""

LEFT_OUT = {
    **{f"{lazy}ConvTranspose{n}d": {"padding_mode"} for lazy in ("", "Lazy") for n in (1, 2, 3)},
    "Hardtanh": {"min_value", "max_value"},  # gone
    "EmbeddingBag": {"include_last_offset"},  # for bags of different lengths
    "Fold": {"output_size"},  # that of the picture which was cut
    "TransformerEncoder": {
        "encoder_layer",
        "norm",
        "enable_nested_tensor",
        "mask_check",
    },  # the last two: eval
    "TransformerDecoder": {"decoder_layer", "norm"},
    "Transformer": {"custom_encoder", "custom_decoder"},
    "LinearCrossEntropyLoss": {"out_features"},
}
"""Options that have only one value, or are layers themselves."""


def options_of(kind: Callable[..., nn.Module]) -> set[str]:
    named = dict(inspect.signature(kind).parameters)
    if kind in (nn.RNN, nn.GRU, nn.LSTM):  # these hand their options on
        named = dict(inspect.signature(nn.RNNBase).parameters)
        named.pop("mode")
        named.pop("proj_size", None) if kind is not nn.LSTM else None
    return {name for name in named if not name.startswith("_")} - NOT_TRIED


def test_a_layer_that_is_not_initialised_is_refused() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(FedplanError, match="LazyLinear"):
        training_plan(
            model, nn.CrossEntropyLoss(), example=(torch.randn(4, 5), torch.zeros(4, dtype=torch.int64))
        )
