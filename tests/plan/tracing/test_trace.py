"""`trace` makes a Plan of any function of tensors that PyTorch can trace."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanInputError, TraceError, UnsupportedOpError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, trace


def test_a_function_becomes_a_plan_with_its_name() -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    plan = trace(double, torch.zeros(3))
    assert plan.name == "double"
    assert plan(torch.tensor([1.0, 2.0, 3.0]))[0].tolist() == [2.0, 4.0, 6.0]


def test_nested_arguments_and_results_are_flattened_in_order() -> None:
    def average(diffs: list[list[torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: (a + b) / 2 for name, a, b in zip("wb", *diffs, strict=True)}

    diff = [torch.zeros(2, 3), torch.zeros(2)]
    plan = trace(average, [diff, diff])
    assert len(plan.inputs) == 4
    b, w = plan(torch.ones(2, 3), torch.ones(2), torch.zeros(2, 3), torch.zeros(2))  # keys are sorted
    assert w.shape == (2, 3) or b.shape == (2, 3)


def test_gradients_by_backward_are_part_of_the_plan() -> None:
    def step(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        w = w.detach().requires_grad_()
        (x @ w).square().mean().backward()
        return w - 0.5 * w.grad

    x, w = torch.randn(4, 3), torch.randn(3)
    plan = trace(step, x, w)
    torch.testing.assert_close(plan(x, w)[0], step(x, w).detach())


def test_in_place_changes_show_in_results_and_never_in_inputs() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        x += 1
        x[0] = 5.0
        return x.view(-1).mul_(2).view(2, 2)

    plan = trace(step, torch.zeros(2, 2))
    given = torch.zeros(2, 2)
    assert plan(given)[0].tolist() == [[10.0, 10.0], [2.0, 2.0]]
    assert given.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_tensors_that_the_function_holds_become_the_plans_state() -> None:
    mask = torch.tensor([1.0, 0.0, 1.0])
    plan = trace(lambda x: x * mask, torch.ones(2, 3))
    assert [t.tolist() for t in plan.state] == [[1.0, 0.0, 1.0]]
    mask.zero_()
    assert Plan.parse(plan.serialize())(torch.ones(2, 3))[0].tolist() == [[1.0, 0.0, 1.0]] * 2


def test_a_plan_works_for_any_number_of_rows_also_one() -> None:
    plan = trace(lambda x: (x - x.mean(dim=0)).reshape(x.shape[0] * 2, -1), torch.zeros(4, 6))
    for rows in (1, 2, 9):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(plan(x)[0], (x - x.mean(dim=0)).reshape(rows * 2, -1))


def test_an_example_of_one_row_does_not_pin_the_batch_when_it_is_data() -> None:
    spec = PlanInputSpec(PlanInputSpec.TYPE_DATA)
    plan = trace(lambda x: x * 2, torch.zeros(1, 3), inputs=[spec])
    assert plan.inputs[0].shape == (None, 3)
    assert plan(torch.ones(5, 3))[0].shape == (5, 3)


def test_a_pinned_batch_is_the_only_one() -> None:
    plan = trace(lambda x: x * 2, torch.zeros(4, 3), pin_batch=True)
    with pytest.raises(PlanInputError, match=r"shape \(5 × 3\).*needs \(4 × 3\)"):
        plan(torch.ones(5, 3))


def test_a_function_that_fixes_the_batch_size_says_so() -> None:
    spec = PlanInputSpec(PlanInputSpec.TYPE_DATA)
    with pytest.raises(
        TraceError, match=r"4 rows of input 0 only: that size is fixed at test_trace\.py:\d+.*pin_batch"
    ):
        trace(lambda x: x + torch.ones(4, 3), torch.zeros(4, 3), inputs=[spec])


def test_a_function_that_branches_on_the_batch_size_is_refused_with_the_line() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] > 10 else x

    with pytest.raises(TraceError, match=r"another path for other batch sizes.*at test_trace\.py:\d+"):
        trace(step, torch.zeros(4, 3))


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.sum() if x.shape[0] == 1 else x.std(0).sum(),
        lambda x: x.sum(0) / max(x.shape[0] - 1, 1),
        lambda x: x.sum() * 0 if x.size(0) < 2 else x.sum(),
        lambda x: x * 3 if len(x.unbind(1)) == x.shape[0] - 60 else x,
        lambda x: sum(number * part.sum() for number, part in enumerate(x.tensor_split(3))),
    ],
)
def test_so_is_one_that_goes_another_way_for_one_size_alone(step: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(TraceError, match="another path for other batch sizes"):
        trace(step, torch.zeros(8, 3), inputs=[PlanInputSpec(PlanInputSpec.TYPE_DATA)])


def test_a_check_of_the_size_that_can_only_raise_is_no_part_of_a_plan() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] < 2:
            raise ValueError("a deviation needs two rows")
        return x.std(0)

    x = torch.randn(5, 3)
    torch.testing.assert_close(trace(step, torch.zeros(8, 3))(x)[0], x.std(0))


def test_a_size_that_is_too_small_for_the_function_is_too_small_for_the_plan() -> None:
    plan = trace(lambda x: x.topk(4, dim=0)[0], torch.zeros(6, 3))
    x = torch.randn(4, 3)
    assert torch.equal(plan(x)[0], x.sort(dim=0, descending=True)[0])
    with pytest.raises(PlanExecutionError, match="topk"):
        plan(torch.randn(3, 3))


@pytest.mark.parametrize("rows", [2, 3, 8, 9])
def test_a_share_of_the_batch_is_one_whatever_its_size(rows: int) -> None:
    def half(x: torch.Tensor) -> torch.Tensor:
        return x.topk(x.shape[0] // 2, dim=0)[0].mean()

    x = torch.randn(rows, 3)
    torch.testing.assert_close(trace(half, torch.zeros(6, 3))(x)[0], half(x))


@pytest.mark.parametrize("rows", [4, 5, 8])
def test_every_fourth_row_is_one_or_several(rows: int) -> None:
    def quarters(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[k::4].mean() for k in range(4)])

    x = torch.randn(rows, 3)
    torch.testing.assert_close(trace(quarters, torch.zeros(12, 3))(x)[0], quarters(x))


@pytest.mark.parametrize(
    "reads",
    [lambda x: x * x.sum().item(), lambda x: x if x.sum() > 0 else -x, lambda x: x * float(x.max())],
    ids=["item", "if", "float"],
)
def test_reading_a_value_into_python_is_refused_with_what_to_do(reads: object) -> None:
    with pytest.raises((TraceError, UnsupportedOpError), match=r"torch\.where"):
        trace(reads, torch.zeros(4, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: torch.multinomial(x, 2), "aten.multinomial"),
        (lambda x: x[x > 0], "aten.index"),
        (lambda x: torch.linalg.eigvals(x.T @ x).abs(), "aten.linalg_eig"),
    ],
    ids=["random numbers", "shapes that depend on values", "complex eigenvalues"],
)
def test_an_unsupported_operation_is_named_with_its_line(function: object, op: str) -> None:
    with pytest.raises((UnsupportedOpError, TraceError)) as caught:
        trace(function, torch.zeros(4, 3))  # type: ignore[arg-type]
    assert "test_trace.py:" in str(caught.value)
    if isinstance(caught.value, UnsupportedOpError):
        assert caught.value.op.startswith(op)


def test_a_function_that_fails_says_where() -> None:
    with pytest.raises(TraceError, match=r"failed while it was traced at test_trace\.py:\d+"):
        trace(lambda x: x @ torch.zeros(7, 7), torch.zeros(4, 3))


def test_outputs_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(TraceError, match="output 0 of the function is 3; a Plan returns tensors"):
        trace(lambda x: 3, torch.zeros(1))


def test_arrays_and_numbers_are_examples_too() -> None:
    plan = trace(lambda x, k: x * k, np.ones((2, 3), np.float32), 2.0)
    assert [(i.shape, i.dtype) for i in plan.inputs] == [((None, 3), "float32"), ((), "float32")]
    assert plan(np.ones((5, 3), np.float32), 4.0)[0].tolist() == [[4.0] * 3] * 5


def test_as_many_specs_as_inputs_and_outputs_are_needed() -> None:
    with pytest.raises(TraceError, match="1 input specs for 2 inputs"):
        trace(lambda x, y: x + y, torch.ones(2), torch.ones(2), inputs=[PlanInputSpec("data")])
    with pytest.raises(TraceError, match="2 output specs for 1 outputs"):
        trace(lambda x: x, torch.ones(2), outputs=[PlanOutputSpec("loss")] * 2)


def test_uninitialised_memory_is_zeros() -> None:
    plan = trace(lambda x: x + torch.empty(3), torch.ones(2, 3))
    assert plan(torch.ones(2, 3))[0].tolist() == [[1.0] * 3] * 2


def test_an_output_may_be_an_input() -> None:
    x = torch.ones(2, 3)
    outputs = trace(lambda x, y: (x, y, x), x, x)(x, x + 1)
    assert [o.sum().item() for o in outputs] == [6.0, 12.0, 6.0]


def test_writing_into_a_part_works_for_any_number_of_rows() -> None:
    def written(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, 1] = 5.0
        y[:, 2:] = x[:, :1]
        return y

    plan = trace(written, torch.zeros(4, 3))
    for rows in (1, 2, 7):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(plan(x)[0], written(x))


def test_a_tensor_of_the_function_that_is_used_twice_is_one_constant() -> None:
    weight = torch.tensor([0.5, 1.0, 2.0])

    def step(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        F.cross_entropy(x, target, weight=weight).backward()
        assert x.grad is not None
        return x.grad

    plan = trace(step, torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert len(plan.state) == 1
    x, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    torch.testing.assert_close(plan(x, target)[0], step(x, target))
