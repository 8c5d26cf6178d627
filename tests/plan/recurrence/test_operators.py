"""The operators as PyTorch sees them."""

import importlib
import subprocess
import sys
from typing import Any

import pytest
import torch

from fedplan.plan.recurrence import operators, reference
from fedplan.plan.recurrence.kernels import FAST
from fedplan.plan.recurrence.schema import RECURRENCES, refusal, results, scratch, work
from tests.plan.recurrence.cases import KINDS, Case
from tests.plan.recurrence.memory import peak

CASES = [
    Case(kind, projected=projected, lengths=lengths, reverse=lengths, biases=not lengths)
    for kind in KINDS
    for lengths in (False, True)
    for projected in ((0, 3) if kind == "lstm" else (0,))
]


def calls(case: Case) -> dict[str, list[Any]]:
    """Arguments of an operation and of its gradient, by name."""
    return {case.kind: case.arguments(), f"{case.kind}_backward": case.backward_arguments()}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore")  # PyTorch's own checks warn of parts of PyTorch
def test_pytorchs_checks_of_an_operator(case: Case) -> None:
    for name, given in calls(case).items():
        if name == case.kind:
            floats = [v for v in given if isinstance(v, torch.Tensor) and v.is_floating_point()]
            for value in floats:
                value.nan_to_num_(0.0).requires_grad_()
        torch.library.opcheck(operators.operator(name), tuple(given))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shapes_are_foreseen_on_the_meta_device(case: Case) -> None:
    for name, given in calls(case).items():
        real = operators.operator(name)(*given)
        foreseen = operators.operator(name)(
            *(v.to("meta") if isinstance(v, torch.Tensor) else v for v in given)
        )
        assert [(m.shape, m.dtype) for m in foreseen] == [(r.shape, r.dtype) for r in real]
        assert len(real) == len(RECURRENCES[name].results)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_derivative_by_differences(case: Case) -> None:
    given = case.arguments()
    floats = [i for i, v in enumerate(given) if isinstance(v, torch.Tensor) and v.is_floating_point()]
    states = 3 if case.kind == "lstm" else 2

    def function(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        full = [*given]
        for place, value in zip(floats, values, strict=True):
            full[place] = value
        made: tuple[torch.Tensor, ...] = operators.operator(case.kind)(*full)[:states]
        return made

    assert torch.autograd.gradcheck(function, [given[i].nan_to_num(0.0).requires_grad_() for i in floats])


def test_a_module_that_is_loaded_again_keeps_the_operators() -> None:
    before = torch.ops.fedplan.gru.default
    importlib.reload(operators)
    assert torch.ops.fedplan.gru.default is before
    assert before(*Case("gru").arguments())[0].shape == (3, 2, 5)


def test_a_call_does_not_import_pytorchs_compiler() -> None:
    # which takes a second
    script = (
        "import sys, torch, fedplan.plan.recurrence.operators\n"
        "w = torch.ones(5, 3, requires_grad=True)\n"
        "arguments = torch.ones(4, 2, 3), torch.ones(2, 5), w, torch.ones(5, 5)\n"
        "torch.ops.fedplan.rnn_tanh(*arguments)\n"
        "torch.ops.fedplan.rnn_tanh(*(value.detach().to('meta') for value in arguments))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"


class TestRefusals:
    """A Plan from the network may call the operations with anything."""

    @pytest.mark.parametrize("name", RECURRENCES)
    def test_what_fits_is_not_refused(self, name: str) -> None:
        given = calls(Case(name.removesuffix("_backward"), lengths=True))[name]
        assert refusal(RECURRENCES[name], given) is None

    @pytest.mark.parametrize("name", RECURRENCES)
    @pytest.mark.parametrize("change", ["longer", "shorter", "flat", "dtype", "device"])
    def test_one_tensor_that_does_not_fit_the_others(self, name: str, change: str) -> None:
        recurrence = RECURRENCES[name]
        given = calls(Case(name.removesuffix("_backward"), lengths=True, steps=3, rows=2, inputs=4, units=5))[
            name
        ]
        for place, value in enumerate(given):
            if not isinstance(value, torch.Tensor):
                continue
            for dim in range(value.dim()) if change in ("longer", "shorter") else [0]:
                if recurrence.names[place] == "x" and dim == 0 and not recurrence.is_backward:
                    continue  # any number of steps will do
                wrong = {
                    "longer": lambda v, d: torch.cat([v, v], d),
                    "shorter": lambda v, d: v.narrow(d, 0, v.shape[d] - 1),
                    "flat": lambda v, d: v.reshape(-1).unsqueeze(0) if v.dim() == 1 else v.reshape(-1),
                    "dtype": lambda v, d: v.to(torch.float32),
                    "device": lambda v, d: v.to("meta"),
                }[change](value, dim)
                args = [*given[:place], wrong, *given[place + 1 :]]
                assert refusal(recurrence, args), (recurrence.names[place], dim)
                with pytest.raises((ValueError, RuntimeError)):
                    operators.operator(name)(*args)

    @pytest.mark.parametrize("name", RECURRENCES)
    def test_a_tensor_that_is_missing(self, name: str) -> None:
        given = calls(Case(name.removesuffix("_backward")))[name]
        for place, declared in enumerate(RECURRENCES[name].arguments):
            if declared.startswith("Tensor "):
                for other in (None, 1, 2.5):
                    assert "is no tensor" in str(
                        refusal(RECURRENCES[name], [*given[:place], other, *given[place + 1 :]])
                    )
        assert refusal(RECURRENCES[name], [])

    @pytest.mark.parametrize("empty", ["steps", "inputs", "units"])
    def test_nothing_to_go_through(self, empty: str) -> None:
        x = torch.zeros(0 if empty == "steps" else 3, 2, 0 if empty == "inputs" else 4)
        units = 0 if empty == "units" else 5
        args = [x, torch.zeros(2, units), torch.zeros(3 * units, x.shape[2]), torch.zeros(3 * units, units)]
        assert "have no steps or no elements" in str(refusal(RECURRENCES["gru"], args))

    def test_whole_numbers(self) -> None:
        args = [v.to(torch.int64) if isinstance(v, torch.Tensor) else v for v in Case("gru").arguments()]
        assert "computes in float32 or float64" in str(refusal(RECURRENCES["gru"], args))

    def test_fewer_outputs_without_a_projection(self) -> None:
        args = Case("lstm", projected=3).arguments()
        args[7] = None
        assert "need a projection" in str(refusal(RECURRENCES["lstm"], args))

    def test_lengths_of_any_value_are_harmless(self) -> None:
        given = Case("lstm", lengths=True).arguments()
        given[0] = given[0].nan_to_num(0.0)
        whole = [*given]
        given[8], whole[8] = torch.tensor([2**62, -(2**62)]), torch.tensor([3, 0])
        for mine, theirs in zip(reference.lstm(*given), reference.lstm(*whole), strict=True):
            assert torch.equal(mine, theirs)


class TestCosts:
    def test_work_counts_the_products(self) -> None:
        case = Case("lstm", steps=80, rows=10, inputs=256, units=256, dtype=torch.float32)
        products = 80 * 10 * 4 * 256 * (256 + 256)  # multiplications
        given = [v.to("meta") if isinstance(v, torch.Tensor) else v for v in case.arguments()]
        assert 2 * products < work(RECURRENCES["lstm"], given) < 2.3 * products
        made = results(RECURRENCES["lstm"], given)
        gradient = [*made[:3], *given[:5], made[0], *made[3:]]
        assert 4 * products < work(RECURRENCES["lstm_backward"], gradient) < 4.4 * products

    def test_steps_count_by_themselves(self) -> None:
        # a million steps of one number each take a minute, and gigabytes of Python objects
        shapes = [(10**6, 1, 1), (1, 1), (1, 1), (1, 1)]
        given = [torch.empty(shape, device="meta") for shape in shapes]
        assert work(RECURRENCES["rnn_tanh"], given) > 10**12
        assert scratch(RECURRENCES["rnn_tanh"], given) > 4 * 2**30

    def test_a_projection_counts_too(self) -> None:
        plain, projected = (Case("lstm", units=500, projected=p).arguments() for p in (0, 499))
        assert work(RECURRENCES["lstm"], projected) > 1.1 * work(RECURRENCES["lstm"], plain)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("lengths", [False, True])
    @pytest.mark.parametrize("sizes", [(40, 8, 16, 64), (10, 64, 300, 32), (50, 1, 8, 8)], ids=str)
    def test_scratch_bounds_what_the_kernels_take(
        self, kind: str, lengths: bool, sizes: tuple[int, ...]
    ) -> None:
        for name, given in calls(Case(kind, *sizes, lengths=lengths, dtype=torch.float32)).items():
            own = sum(t.nbytes for t in getattr(reference, name)(*given))
            bound = scratch(RECURRENCES[name], given) + own
            for function in (getattr(reference, name), FAST[name].call):
                assert peak(lambda f=function, g=given: f(*g)) <= bound
