"""What a Plan needs is known, and held to its limits, before it touches data."""

import pytest
import torch

from fedplan.errors import PlanExecutionError, PlanInputError, PlanLimitError
from fedplan.plan import Limits, Plan, PlanInputSpec, PlanOutputSpec, trace

F32 = "float32"


def product() -> Plan:
    return trace(lambda x, w: x @ w, torch.zeros(4, 3), torch.zeros(3, 5).requires_grad_())


def test_shapes_and_dtypes_of_the_outputs_are_known_without_data() -> None:
    cost = product().check([((10, 3), F32), ((3, 5), F32)])
    assert cost.outputs == (((10, 5), F32),)


def test_memory_is_that_of_the_values_alive_at_one_time() -> None:
    cost = product().check([((10, 3), F32), ((3, 5), F32)])
    assert cost.peak_bytes == 4 * (10 * 3 + 3 * 5 + 10 * 5)


def test_memory_of_dead_values_counts_no_longer() -> None:
    def chain(x: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            x = x.tanh()
        return x

    cost = trace(chain, torch.zeros(1000)).check([((1000,), F32)])
    assert cost.peak_bytes <= 3 * 4000


def test_work_of_a_matrix_product_is_its_multiplications_and_additions() -> None:
    assert product().check([((10, 3), F32), ((3, 5), F32)]).work == 2 * 10 * 3 * 5


def test_work_of_a_convolution_counts_each_weight_once_an_output() -> None:
    conv = torch.nn.Conv2d(2, 4, 3, bias=False)
    plan = trace(torch.conv2d, torch.zeros(1, 2, 8, 8), conv.weight, pin_batch=True)
    assert plan.check([((1, 2, 8, 8), F32), ((4, 2, 3, 3), F32)]).work == 2 * (4 * 6 * 6) * (2 * 3 * 3)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_bytes=1000), r"would hold 1,\d+ bytes; 1,000 are allowed"),
        (Limits(max_work=100), r"would do \d,?\d+ operations on numbers; 100 are allowed"),
        (Limits(max_operations=0), r"has 1 operations; 0 are allowed"),
    ],
)
def test_a_plan_over_a_limit_is_refused(limits: Limits, message: str) -> None:
    with pytest.raises(PlanLimitError, match=message):
        product().check([((50, 3), F32), ((3, 5), F32)], limits)


def test_a_plan_that_would_fill_the_memory_is_refused_before_it_runs() -> None:
    plan = trace(lambda x: x.expand(1000, 1000, 1000, 1000).clone() + 1, torch.zeros(1))
    with pytest.raises(PlanLimitError, match="max_bytes"):
        plan(torch.zeros(1))


def test_shapes_that_do_not_go_together_name_the_operation() -> None:
    plan = trace(lambda x, y: x + y, torch.zeros(4, 3), torch.zeros(4, 3))
    with pytest.raises(PlanExecutionError, match=r"aten\.add\.Tensor.*test_check\.py:\d+.*broadcast"):
        plan(torch.zeros(2, 3), torch.zeros(5, 3))


def test_arguments_that_do_not_fit_the_inputs_are_named() -> None:
    plan = product()
    with pytest.raises(PlanInputError, match=r"takes 2 arguments \(input 0, input 1\), not 1"):
        plan(torch.zeros(4, 3))
    with pytest.raises(PlanInputError, match=r"'input 1' has the shape \(3 × 6\), the Plan needs \(3 × 5\)"):
        plan(torch.zeros(4, 3), torch.zeros(3, 6))
    with pytest.raises(
        PlanInputError, match=r"dtype float64, the Plan needs float32.*\.to\(torch\.float32\)"
    ):
        plan(torch.zeros(4, 3, dtype=torch.float64), torch.zeros(3, 5))
    with pytest.raises(PlanInputError, match="'input 0' is a str; a tensor, array or number is needed"):
        plan("x", torch.zeros(3, 5))


class TestCheckModel:
    """Hosting asks whether a Plan trains the very model that it is hosted with."""

    def plan(self) -> Plan:
        i, o = PlanInputSpec, PlanOutputSpec
        return trace(
            lambda x, w: (x.sum(), w * 2),
            torch.zeros(4, 3),
            torch.zeros(3, 5),
            inputs=[i(i.TYPE_DATA), i(i.TYPE_MODEL_PARAM, index=0)],
            outputs=[o(o.TYPE_LOSS), o(o.TYPE_MODEL_PARAM, index=0)],
        )

    def test_the_model_it_was_traced_with_fits(self) -> None:
        self.plan().check_model([((3, 5), F32)])

    def test_another_shape_does_not(self) -> None:
        with pytest.raises(PlanInputError, match=r"modelParam 0.*\(5 × 3\).*\(3 × 5\)"):
            self.plan().check_model([((5, 3), F32)])

    def test_a_model_with_fewer_parameters_does_not(self) -> None:
        with pytest.raises(PlanInputError, match="trains parameter 0, the model has only 0"):
            self.plan().check_model([])

    def test_a_plan_that_says_nothing_passes(self) -> None:
        product().check_model([((1, 1), F32)])
