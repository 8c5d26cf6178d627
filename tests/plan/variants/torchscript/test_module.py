"""A Plan becomes a TorchScript archive that computes what the Plan computes."""

import dataclasses
import io
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TranslationError
from fedplan.plan import Plan, PlanInput, PlanInputSpec, PlanOutput, model_parameters, trace, training_plan
from fedplan.plan.ir.graph import Graph, Node
from fedplan.plan.ops import DTYPES, OPS, lookup
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.torchscript import run, spelling, write
from fedplan.plan.variants.torchscript.loading import load
from tests.plan.families import FAMILIES, images, mlp, vectors
from tests.plan.fixtures import cases, needs_fixtures, state
from tests.plan.test_random_graphs import COLUMNS, Program, programs, relaxed
from tests.plan.tracing.test_training import optimizer_state, traced


def check(plan: Plan, *arguments: torch.Tensor) -> None:
    """The archive's outputs are the interpreter's."""
    expected = interpret(plan.graph, arguments)
    outputs = run(write(plan), arguments)
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def signature(plan: Plan) -> str:
    return str(load(write(plan)).forward.schema).removeprefix("forward(__torch__.Plan self")


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_an_archive_trains_as_the_plan_does_at_any_batch_size(name: str) -> None:
    model, plan = traced(name)
    torch.manual_seed(0)  # Adam divides a gradient by its own size: one near zero shows any rounding
    for rows in FAMILIES[name].sizes:
        x, y = FAMILIES[name].batch(rows)
        check(plan, x, y, torch.tensor([0.1]), *model_parameters(model), *optimizer_state(plan))


def test_layers_in_eval_mode_train_too() -> None:
    model = nn.Sequential(
        nn.ConvTranspose2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 17 * 17, 3)
    ).eval()
    plan = training_plan(model, F.cross_entropy, example=images(4))
    check(plan, *images(5), torch.tensor([0.1]), *model_parameters(model))


@relaxed
@given(programs)
def test_random_functions(program: Program) -> None:
    torch.manual_seed(0)
    plan = trace(program, torch.randn(3, COLUMNS), torch.randn(COLUMNS, COLUMNS).requires_grad_())
    check(plan, torch.randn(5, COLUMNS), torch.randn(COLUMNS, COLUMNS))


@needs_fixtures
@pytest.mark.parametrize("folder", cases(), ids=lambda folder: folder.name)
def test_op_lists_of_pysyft(folder: Path) -> None:
    check(Plan.parse((folder / "list.plan.pb").read_bytes()), *state(folder / "input.state.pb"))


class TestTheSignature:
    def test_parameters_are_one_list_and_the_optimizers_tensors_another(self) -> None:
        _, plan = traced("MLP, momentum")
        assert signature(plan) == (
            ", Tensor data, Tensor target, Tensor lr, Tensor[] params, Tensor[] optimizer_state) -> Tensor[]"
        )

    def test_a_batch_size_has_the_place_in_which_phones_pass_it(self) -> None:
        plan = training_plan(mlp(), F.cross_entropy, example=vectors(4), batch_size_input=True)
        module = load(write(plan))
        assert signature(plan) == (
            ", Tensor data, Tensor target, Tensor batch_size, Tensor lr, Tensor[] params) -> Tensor[]"
        )
        model = mlp()
        outputs = module(*vectors(6), torch.tensor([6]), torch.tensor([0.1]), model_parameters(model))
        assert [tuple(t.shape) for t in outputs] == [(), (5, 6), (5,), (3, 5), (3,)]

    def test_a_list_of_another_length_is_refused(self) -> None:
        model, plan = traced("MLP")
        with pytest.raises(RuntimeError, match="4 elements"):
            load(write(plan))(*vectors(4), torch.tensor([0.1]), model_parameters(model)[:3])

    def test_inputs_without_a_meaning_are_tensors_under_their_names(self) -> None:
        plan = trace(lambda a, b: a + b, torch.ones(2), torch.ones(2))
        assert signature(plan) == ", Tensor input_0, Tensor input_1) -> Tensor[]"

    def test_names_that_mean_something_there_or_come_twice_are_changed(self) -> None:
        names = ("self", "v0", "for", "a b", "a_b", "1", "torch", "ß", "int")
        inputs = tuple(
            PlanInput(n, (2,), "float32", PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, n))
            for n in names
        )
        numbers = tuple(range(len(names)))
        plan = Plan("names", inputs, (PlanOutput("out"),), Graph(numbers, (), (), numbers[::-1]))
        assert signature(plan).startswith(
            ", Tensor _self, Tensor _v0, Tensor _for, Tensor a_b, Tensor a_b_, Tensor _1, Tensor _torch"
        )
        check(plan, *(torch.full((2,), float(n)) for n in numbers))

    def test_a_plan_may_have_no_inputs_and_no_outputs(self) -> None:
        check(Plan("empty", (), (), Graph((), (), (), ())))
        constant = Node("aten.full.default", ((2,), 3), (0,))
        check(Plan("constant", (), (PlanOutput("out"),), Graph((), (), (constant,), (0,))))


class TestState:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_tensors_of_every_dtype_are_part_of_the_archive(self, dtype: str) -> None:
        tensors = [torch.tensor(v).to(DTYPES[dtype]) for v in ([[1, 0, 3], [4, 5, 6]], 7, [])]
        numbered = tuple(enumerate(tensors))
        plan = Plan(
            "state", (), tuple(PlanOutput(f"{n}") for n in range(3)), Graph((), numbered, (), (0, 1, 2))
        )
        for ours, theirs in zip(run(write(plan), []), tensors, strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)

    def test_it_is_the_modules_buffers_under_the_numbers_of_the_values(self) -> None:
        plan = trace(lambda x: x * torch.tensor([1.0, 0.0, 1.0]), torch.ones(2, 3))
        ((number, tensor),) = plan.graph.constants
        buffers = dict(load(write(plan)).named_buffers())
        assert list(buffers) == [f"v{number}"]
        assert torch.equal(buffers[f"v{number}"], tensor)
        check(plan, torch.randn(5, 3))


class TestTheArchive:
    def test_records_lie_in_one_folder_uncompressed_and_aligned(self) -> None:
        data = write(traced("CNN with batch norm")[1])
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            for record in archive.infolist():
                assert record.filename.startswith("plan/")
                assert record.compress_type == zipfile.ZIP_STORED
                name, extra = struct.unpack_from("<HH", data, record.header_offset + 26)
                assert (record.header_offset + 30 + name + extra) % 64 == 0
            assert archive.read("plan/version") == b"5\n"

    def test_the_same_plan_gives_the_same_bytes(self) -> None:
        _, plan = traced("MLP")
        assert write(plan) == write(Plan.parse(plan.serialize()))

    def test_it_holds_only_the_functions_that_it_calls(self) -> None:
        def functions(plan: Plan) -> list[str]:
            return re.findall(r"^def (\w+)", source(plan), re.MULTILINE)

        assert functions(trace(lambda x: x + 1, torch.ones(2))) == []
        assert functions(traced("softmax regression")[1]) == ["log_softmax_backward"]
        assert functions(traced("CNN with batch norm")[1]).count("batch_norm") == 1


def source(plan: Plan) -> str:
    with zipfile.ZipFile(io.BytesIO(write(plan))) as archive:
        return archive.read("plan/code/__torch__.py").decode()


def test_integers_are_given_as_fractions_where_torch_1_7_takes_no_others() -> None:
    plan = trace(lambda n: (n.sigmoid(), n.floor(), n.clamp(0.5, 1.5)), torch.zeros(4, dtype=torch.int64))
    check(plan, torch.arange(3))
    text = source(plan)
    assert text.count("torch.to(v0, 6)") == 2  # for the sigmoid and for the bounds with fractions
    assert text.count("torch.to(v0, 4)") == 1
    assert "torch.floor" not in text
    assert "torch.to" not in source(trace(lambda x: x.sigmoid().floor(), torch.zeros(4)))


def test_what_cannot_be_said_is_refused_with_its_place_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every operation can be said; one that could not be would be refused like this."""
    row = dataclasses.replace(OPS["aten.sort.default"], torchscript=None)
    monkeypatch.setattr(spelling, "lookup", lambda name: row if name == row.name else lookup(name))
    plan = trace(lambda x: x.sort().values, torch.zeros(4))
    with pytest.raises(
        TranslationError, match=r"\(at test_module.py:\d+\) cannot be said in TorchScript.*fedplan.trace"
    ) as caught:
        write(plan)
    assert caught.value.op == "aten.sort.default"
    assert caught.value.variant == "TorchScript"
