"""Errors and listings name the author's line, and the layer of the network."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from torch import nn
from torch.nn import functional as F

import fedplan.cli.demo
from fedplan.errors import FedplanError, UnsupportedOpError
from fedplan.plan import Plan, trace, training_plan
from fedplan.plan.tracing.source import is_authors_file
from tests.plan.families import vectors

HERE = Path(__file__)


def line_of(text: str) -> str:
    """``test_source.py:12`` of the only line of this file that ends with this comment."""
    (number,) = [n for n, line in enumerate(HERE.read_text().splitlines(), 1) if line.endswith(f"# {text}")]
    return f"{HERE.name}:{number}"


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 5), nn.Linear(5, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x)  # the first layer
        x = torch.sin(x)  # the sine
        return self.layers[1](x)  # the last layer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).tanh()  # the whole body


def plan_of(model: nn.Module) -> Plan:
    return training_plan(model, F.cross_entropy, example=vectors(4))  # the plan is made


def places(plan: Plan, op: str) -> set[str | None]:
    return {node.source for node in plan.graph.nodes if node.op == f"aten.{op}"}


class TestAListing:
    def test_names_the_line_and_the_layer_by_its_path(self) -> None:
        plan = plan_of(Net())
        assert places(plan, "addmm.default") == {
            f"{line_of('the first layer')} in body.layers.0: Linear",
            f"{line_of('the last layer')} in body.layers.1: Linear",
        }
        assert places(plan, "sin.default") == {f"{line_of('the sine')} in body: Body"}
        assert places(plan, "tanh.default") == {f"{line_of('the whole body')} in Net"}

    def test_gives_a_gradient_the_place_of_what_it_is_the_gradient_of(self) -> None:
        plan = plan_of(Net())
        assert places(plan, "tanh_backward.default") == places(plan, "tanh.default")
        assert places(plan, "cos.default") == places(plan, "sin.default")

    def test_names_the_layers_of_a_model_that_has_no_code_of_the_author(self) -> None:
        plan = plan_of(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)))
        assert places(plan, "relu.default") == {f"{line_of('the plan is made')} in 1: ReLU"}
        assert places(plan, "threshold_backward.default") == places(plan, "relu.default")

    def test_gives_the_optimizer_the_line_that_asked_for_the_plan(self) -> None:
        assert places(plan_of(Net()), "addcmul.default") == {line_of("the plan is made")}


class TestARefusal:
    def refusal(self, function: Callable[[torch.Tensor], object]) -> FedplanError:
        with pytest.raises(FedplanError) as caught:
            trace(function, torch.zeros(4, 3))
        return caught.value

    def test_of_an_operation_has_line_and_layer_as_parts(self) -> None:
        with pytest.raises(UnsupportedOpError) as caught:
            plan_of(nn.Sequential(nn.Linear(6, 3), Sorting()))
        assert caught.value.source == line_of("no Plan can hold this")
        assert caught.value.layer == "1: Sorting"
        assert f"(at {line_of('no Plan can hold this')} in 1: Sorting)" in str(caught.value)

    def test_of_a_value_that_is_read_names_the_reader(self) -> None:
        def step(x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x  # this reads

        assert f"at {line_of('this reads')}" in str(self.refusal(step))

    def test_of_a_failure_names_what_failed(self) -> None:
        def step(x: torch.Tensor) -> torch.Tensor:
            return x @ torch.zeros(7, 7)  # this fails

        assert f"at {line_of('this fails')}" in str(self.refusal(step))

    def test_of_a_failure_in_autograd_names_at_least_who_asked(self) -> None:
        def step(x: torch.Tensor) -> torch.Tensor:
            w = torch.ones(3).requires_grad_()
            y = (x * w).exp()
            loss = y.sum()
            y.zero_()
            loss.backward()  # autograd misses a value
            assert w.grad is not None
            return w.grad

        assert f"at {line_of('autograd misses a value')}" in str(self.refusal(step))

    def test_of_a_condition_on_sizes_names_the_authors_line_also_when_pytorch_asks(self) -> None:
        def step(x: torch.Tensor) -> torch.Tensor:
            return torch.stack([c.mean() for c in x.chunk(3)])  # PyTorch asks for sizes here

        error = str(self.refusal(step))
        assert f"at {line_of('PyTorch asks for sizes here')}" in error, error


class Sorting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.unique(x.detach()).sum()  # no Plan can hold this


class TestWhoseCodeItIs:
    def test_packages_named_like_ours_are_the_authors(self) -> None:
        torch_folder, our_folder = Path(torch.__file__).parent, Path(fedplan.__file__).parent
        for folder in (torch_folder, our_folder):
            assert not is_authors_file(str(folder / "nn" / "modules" / "linear.py"))
            assert is_authors_file(str(folder.with_name(f"{folder.name}_geometric") / "conv.py"))

    def test_the_demo_is_written_as_an_author_would(self) -> None:
        assert is_authors_file(str(Path(fedplan.cli.demo.__file__).parent / "anything.py"))

    def test_python_numpy_and_pytorch_are_nobodys_and_what_else_is_installed_is(self) -> None:
        assert not is_authors_file(re.__file__)
        assert is_authors_file(sympy.__file__)
        assert not is_authors_file(np.__file__)
        assert not is_authors_file(torch.__file__)

    @pytest.mark.parametrize(
        ("arguments", "stdin", "line"),
        [
            (["-c", "{code}"], "", "<string>:3"),
            (["-"], "{code}", "<stdin>:3"),
        ],
    )
    def test_what_is_typed_is_the_authors(self, arguments: list[str], stdin: str, line: str) -> None:
        code = (
            "import torch, fedplan\ndef f(x):\n    return torch.unique(x)\nfedplan.trace(f, torch.ones(3))\n"
        )
        run = subprocess.run(
            [sys.executable, *(a.format(code=code) for a in arguments)],
            input=stdin.format(code=code),
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"(at {line})" in run.stderr

    def test_a_notebooks_cell_is_the_authors(self) -> None:
        names: dict[str, object] = {"torch": torch, "__name__": "__main__"}
        exec(compile("def f(x):\n    return torch.unique(x)\n", "<ipython-input-7-abc>", "exec"), names)
        with pytest.raises(UnsupportedOpError, match=r"\(at <ipython-input-7-abc>:2\)"):
            trace(names["f"], torch.ones(3, 2))  # type: ignore[arg-type]

    def test_a_cell_that_runs_has_the_number_that_the_notebook_shows(self) -> None:
        cells = (
            "import torch, fedplan",
            "def f(x):\n    return torch.unique(x)",
            "fedplan.trace(f, torch.ones(3))",
        )
        code = (
            "from ipykernel.compiler import XCachingCompiler\n"
            "from IPython.core.interactiveshell import InteractiveShell\n"
            "InteractiveShell.compiler_class = XCachingCompiler\n"
            "shell = InteractiveShell.instance(colors='NoColor')\n"
            f"for cell in {cells!r}:\n    result = shell.run_cell(cell, store_history=True)\n"
            "print('found:', result.error_in_exec)\n"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "(at In[2]:2)" in run.stdout.split("found:")[1]
