"""Archives run with a Plan's flat arguments, whoever made them, and show the values on their way."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedplan.errors import FedplanError, PlanExecutionError, PlanFormatError, PlanInputError
from fedplan.plan import model_parameters, to_torch, trace
from fedplan.plan.ir.graph import Node
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.torchscript import run, values, write
from fedplan.wire import read_tensor, schema
from tests.plan.families import FAMILIES
from tests.plan.fixtures import FOLDER, needs_fixtures, state
from tests.plan.tracing.test_training import optimizer_state, traced

ARCHIVES = sorted(FOLDER.glob("**/torchscript.plan.pb"))

UNREADABLE = {"norm": "frobenius_norm"}
"""Of PySyft's archives, those that call operators which today's torch no longer has."""


def arguments_for(name: str, rows: int = 4) -> list[torch.Tensor]:
    model, plan = traced(name)
    torch.manual_seed(0)
    x, y = FAMILIES[name].batch(rows)
    return [x, y, torch.tensor([0.1]), *model_parameters(model), *optimizer_state(plan)]


class TestValues:
    @pytest.mark.parametrize("name", ["MLP, Adam", "CNN with batch norm", "LSTM cell", "GRU"])
    def test_each_tensor_on_the_way_is_found_by_its_number(self, name: str) -> None:
        _, plan = traced(name)
        arguments = arguments_for(name)
        found = values(write(plan), arguments)
        expected: dict[int, torch.Tensor] = {}
        # what nothing reads may be left out, such as the gradient of a recurrent layer's inputs
        read = {*plan.graph.outputs}.union(*(node.refs() for node in plan.graph.nodes))

        def keep(_: Node, number: int, made: object) -> None:
            if isinstance(made, torch.Tensor) and number in read:
                expected[number] = made

        interpret(plan.graph, arguments, keep)
        assert found.keys() >= expected.keys()
        assert [number for number in found if number in expected] == list(expected)
        for number, tensor in expected.items():
            torch.testing.assert_close(found[number], tensor, rtol=1e-5, atol=1e-5)

    def test_another_operation_shows_where_it_stands(self) -> None:
        right, wrong = (trace(f, torch.ones(3)) for f in (lambda x: x.exp().neg(), lambda x: x.sin().neg()))
        x = torch.randn(3)
        one, other = values(write(right), [x]), values(write(wrong), [x])
        assert next(n for n in one if not torch.equal(one[n], other[n])) == right.graph.nodes[0].results[0]


class TestArguments:
    def test_they_are_left_as_they_were(self) -> None:
        arguments = arguments_for("CNN with batch norm")
        copies = [argument.clone() for argument in arguments]
        run(write(traced("CNN with batch norm")[1]), arguments)
        assert all(map(torch.equal, arguments, copies))

    @pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: [*a, a[0]], lambda a: []])
    def test_more_or_fewer_are_refused(self, change: Callable[..., list[torch.Tensor]]) -> None:
        with pytest.raises(PlanInputError, match="arguments"):
            run(write(traced("MLP, momentum")[1]), change(arguments_for("MLP, momentum")))

    def test_shapes_that_do_not_fit_are_an_error_of_the_run(self) -> None:
        arguments = arguments_for("MLP")
        with pytest.raises(PlanExecutionError, match="the TorchScript archive failed"):
            run(write(traced("MLP")[1]), [arguments[0][:, :3], *arguments[1:]])


class TestDamage:
    def test_an_archive_that_was_cut_or_changed_is_refused(self) -> None:
        data, arguments = write(traced("MLP")[1]), arguments_for("MLP")
        dice = random.Random(0)
        for case in range(200):
            damaged = bytearray(data)
            if case % 3 == 0:
                del damaged[dice.randrange(len(data)) :]
            else:
                damaged[dice.randrange(len(data))] = dice.randrange(256)
            try:
                outputs = run(bytes(damaged), arguments)
            except FedplanError:
                continue
            assert len(outputs) == 5  # what was hit was padding

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not an archive", bytes(1000)])
    def test_other_bytes_are_no_archive(self, data: bytes) -> None:
        with pytest.raises(PlanFormatError, match="cannot be loaded"):
            run(data, [])


@needs_fixtures
@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.parent.name)
def test_archives_of_pysyft_run_to_their_expected_outputs(path: Path) -> None:
    message = schema.Plan.decode(path.read_bytes())
    arguments = state(path.parent / "input.state.pb")
    for item in message.role.state.tensors if message.role and message.role.state else []:
        holder = item.torch_param.tensor if item.torch_param else item.torch_tensor
        arguments.append(to_torch(read_tensor(holder)))
    if path.parent.name in UNREADABLE:
        with pytest.raises(PlanFormatError, match=UNREADABLE[path.parent.name]):
            run(message.torchscript, arguments)
        return
    expected = state(path.parent / "expected_output.state.pb")
    for ours, theirs in zip(run(message.torchscript, arguments), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
