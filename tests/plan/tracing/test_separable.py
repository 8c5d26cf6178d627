"""What DP-SGD cannot train is refused, with the reason and what to do instead."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import DpSgd, training_plan
from fedplan.plan.variants.make import with_variants

DP = DpSgd(max_grad_norm=1.0, noise_multiplier=1.0, expected_batch_size=4)


def batch(rows: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 6), torch.arange(rows) % 3


def refused(model: nn.Module, loss: Any = F.cross_entropy, example: Any = None, **options: Any) -> str:
    """What a user is told."""
    with pytest.raises(TraceError) as caught:
        training_plan(model, loss, example=batch() if example is None else example, **{"dp": DP, **options})
    return str(caught.value)


class Mixing(nn.Module):
    """Its output for a row depends on the other rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.inner(x - x.mean(0))
        return made


class Counting(nn.Module):
    """It keeps a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.mul_(0.9).add_(0.1 * x.mean(0))  # type: ignore[operator]
        made: Tensor = self.inner(x)
        return made


def test_a_batch_norm_in_train_mode_is_refused_and_group_norm_is_named() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    said = refused(model)
    assert "the batch norm 1 uses the statistics of the whole batch" in said
    assert "Use nn.GroupNorm or nn.LayerNorm" in said
    model[1].eval()  # with running statistics as they are each row stands for itself
    assert training_plan(model, F.cross_entropy, example=batch(), dp=DP).dp == DP


def test_a_batch_norm_without_running_statistics_is_refused_in_evaluation_mode_too() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    assert "the batch norm 1" in refused(model.eval())


def test_rows_that_are_mixed_are_refused_with_the_figures() -> None:
    said = refused(Mixing())
    assert "the loss of 4 samples of the example together is" in said
    assert "no layer that mixes the rows of a batch" in said


def test_rows_that_are_mixed_are_found_where_the_example_is_all_zeros() -> None:
    assert "mixes the rows" in refused(Mixing(), example=(torch.zeros(4, 6), batch()[1]))


def test_a_loss_that_weighs_classes_is_no_mean_of_its_samples() -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]))
    assert "no weights of classes in its mean" in refused(nn.Linear(6, 3), weighted)


def test_a_loss_that_is_a_sum_is_taken_as_the_mean_is() -> None:
    model = nn.Linear(6, 3)
    summed = training_plan(model, nn.CrossEntropyLoss(reduction="sum"), example=batch(), dp=DP)
    mean = training_plan(model, nn.CrossEntropyLoss(), example=batch(), dp=DP)
    assert [node.op for node in summed.graph.nodes if "mm" in node.op] == [
        node.op for node in mean.graph.nodes if "mm" in node.op
    ]


def test_a_metric_that_is_no_mean_is_refused() -> None:
    said = refused(nn.Linear(6, 3), metrics={"spread": lambda output, _: output.std()})
    assert "the metric 'spread' of 4 samples of the example together" in said


def test_buffers_that_are_written_to_are_refused() -> None:
    assert "the step writes to 'seen'" in refused(Counting())


def test_dropout_is_no_reason_to_refuse() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    plan = training_plan(model, F.cross_entropy, example=batch(), dp=DP)
    assert [item.kind for item in plan.inputs if item.is_random] == ["uniform", "normal"]
    assert model.training
    assert model[1].training


def test_an_example_needs_two_samples() -> None:
    assert "the example is one sample" in refused(nn.Linear(6, 3), example=batch(1))


def test_each_tensor_of_the_example_needs_a_row_a_sample() -> None:
    said = refused(nn.Linear(6, 3), lambda o, t: o.sum() * t, (torch.randn(4, 6), torch.tensor(2.0)))
    assert "the shapes (4, 6), (): with dp each needs one row a sample" in said


def test_an_example_must_have_values() -> None:
    said = refused(nn.Linear(6, 3), example=(torch.randn(4, 6), torch.full((4,), 9)))
    assert "the loss cannot be computed on the example" in said
    assert "values such as workers have" in said
    said = refused(nn.Linear(6, 3), F.mse_loss, (torch.full((4, 6), torch.nan), torch.zeros(4, 3)))
    assert "the loss of the example is nan" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pin_batch": True}, "pin_batch=True does not go with dp"),
        ({"clip_norm": 1.0}, "set max_grad_norm of the DpSgd"),
        ({"clip_value": 1.0}, "clip_norm and clip_value clip the gradient of the whole batch"),
        ({"dp": 1.0}, "dp is a float, and must be a DpSgd"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], message: str) -> None:
    assert message in refused(nn.Linear(6, 3), **options)


def test_hooks_for_a_gradient_are_refused() -> None:
    model = nn.Linear(6, 3)
    model.weight.register_hook(lambda gradient: gradient * 2)
    assert "the parameter 'weight' has a hook" in refused(model)


def test_browsers_and_phones_are_not_given_such_a_plan() -> None:
    plan = with_variants(training_plan(nn.Linear(6, 3), F.cross_entropy, example=batch(), dp=DP))
    assert plan.variants.names() == []
    assert all("only Python workers draw Poisson batches" in why for why in plan.variants.missing.values())
    assert set(plan.variants.missing) == {"tfjs", "torchscript"}
