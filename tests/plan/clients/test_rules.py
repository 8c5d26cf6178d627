"""Each operation of the op table computes for many clients what it computes for each of them alone."""

import re
import warnings
from collections.abc import Iterator

import pytest
import torch

from fedplan.errors import PlanExecutionError
from fedplan.plan import OPS
from fedplan.plan.clients.compiler import lifted_graph
from fedplan.plan.clients.lifting import lift
from fedplan.plan.clients.plan import over_clients
from fedplan.plan.clients.rules import RULES, rule
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import Kind
from fedplan.plan.ops.clients import BY_VMAP
from fedplan.plan.run.compiler import Repetition
from fedplan.plan.run.interpreter import interpret
from tests.plan.clients.samples import FURTHER
from tests.plan.variants.torchscript.operations import SAMPLES
from tests.plan.variants.torchscript.samples import Sample

MAKE_FROM_NUMBERS = {
    f"aten.{name}"
    for name in (
        "arange.start_step", "eye.default", "full.default", "scalar_tensor.default", "tril_indices.default",
        "triu_indices.default",
    )
}  # fmt: skip
"""Operations that read no tensor, and so are the same for all clients."""

TESTED = [sample for sample in (*SAMPLES, *FURTHER) if sample.op in RULES]


@pytest.fixture
def _no_slow_loop() -> Iterator[None]:
    """Where `torch.func.vmap` has no rule, it loops over the clients and warns; here it fails."""
    vmap = torch._C._functorch
    vmap._set_vmap_fallback_enabled(False)
    yield
    vmap._set_vmap_fallback_enabled(True)


def test_every_operation_that_reads_tensors_has_a_rule_and_an_example() -> None:
    reads = {op.name for op in OPS.values() if op.kind is not Kind.SIZE} - MAKE_FROM_NUMBERS
    assert reads == RULES.keys()
    assert reads == {sample.op for sample in TESTED}


def test_plans_that_fedplan_traces_hold_nothing_that_vmap_computes() -> None:
    assert [name for name in BY_VMAP if OPS[name].traced] == []


@pytest.mark.usefixtures("_no_slow_loop")
@pytest.mark.some(48)
@pytest.mark.parametrize("op", sorted({sample.op for sample in TESTED}))
@pytest.mark.parametrize("strided", [True, False])
def test_an_operation_computes_for_clients_what_it_computes_for_one(op: str, strided: bool) -> None:
    for sample in TESTED:
        if sample.op == op:
            check(sample, strided)


def check(sample: Sample, strided: bool) -> None:
    """Every argument is the clients' own in turn, alone, with all others, and all but it."""
    plan, given = sample.plan(strided)
    places = range(len(given))
    chosen = {tuple(places), *((k,) for k in places), *(tuple(j for j in places if j != k) for k in places)}
    for apart in sorted(chosen - {()}):
        clients = [given, *(_varied(given, apart, version) for version in (1, 2))]
        made = [_alone(plan.graph, arguments) for arguments in clients]
        expected = made[0]
        if expected is None:  # read through a transposition, there is no such call
            assert strided
            return
        for number, values in enumerate(made):  # what an operation does not take the first client has too
            if values is None or [v.shape for v in values] != [v.shape for v in expected]:
                clients[number], made[number] = clients[0], expected
        together = [
            torch.stack(values) if k in apart else values[0]
            for k, values in enumerate(zip(*clients, strict=True))
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop.*")
            found = over_clients(plan)(together, apart=apart)
        for ours, theirs in zip(found, zip(*(m for m in made if m is not None), strict=True), strict=True):
            text = f"{sample}, apart {apart}: "
            torch.testing.assert_close(
                ours, torch.stack(theirs), rtol=1e-5, atol=1e-5, equal_nan=True, msg=text.__add__
            )


def _varied(given: list[torch.Tensor], apart: tuple[int, ...], version: int) -> list[torch.Tensor]:
    """Other numbers in the same range: in another order, and smaller if that may be."""
    return [_other(tensor, version) if k in apart else tensor for k, tensor in enumerate(given)]


def _other(tensor: torch.Tensor, version: int) -> torch.Tensor:
    turned = tensor.flip(-1 if version == 1 else 0) if tensor.dim() else tensor
    return (turned * 0.75 if tensor.is_floating_point() and version == 1 else turned).contiguous()


def _alone(graph: Graph, arguments: list[torch.Tensor]) -> list[torch.Tensor] | None:
    try:
        return interpret(graph, arguments)
    except PlanExecutionError:
        return None


@pytest.mark.parametrize("sample", TESTED[::23], ids=lambda sample: sample.op)
def test_a_graph_does_not_say_how_many_clients_there_are(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, given = sample.plan()
    if not given:
        return
    client = over_clients(plan)
    for count in (1, 2, 5):
        stacked = [tensor.expand(count, *tensor.shape) for tensor in given]
        client(stacked, apart=range(len(given)))
    assert len(client._executors) == 1


def test_an_operation_that_cannot_be_computed_together_says_what_to_do_instead() -> None:
    node = Node("aten.cumsum.default", (Ref(0), 0), (1,), "net.py:12")
    graph = Graph((0,), (), (node,), (1,))
    values = {0: torch.empty(3, device="meta"), 1: torch.empty(4, device="meta")}
    with pytest.raises(PlanExecutionError, match=re.escape("net.py:12")) as error:
        lift(graph, values, {0}, rule)
    assert "one after the other" in str(error.value)


def test_numbers_that_point_at_another_client_are_refused() -> None:
    for name, arguments in {
        "embedding": (torch.randn(4, 2), torch.tensor([1, 3])),
        "gather": (torch.randn(4), 0, torch.tensor([1, 3])),
        "index_select": (torch.randn(4, 2), 0, torch.tensor([1, 3])),
        "index": (torch.randn(4, 2), (torch.tensor([1, 3]),)),
    }.items():
        op = f"aten.{name}.{'Tensor' if name == 'index' else 'default'}"
        plan, given = Sample(op, arguments).plan()
        stacked = [torch.stack([tensor] * 3) for tensor in given]
        over_clients(plan)(stacked, apart=(0, 1))
        stacked[1][1, 0] = 4
        with pytest.raises(PlanExecutionError):
            over_clients(plan)(stacked, apart=(0, 1))


def test_what_all_clients_share_is_computed_once() -> None:
    plan, given = Sample("aten.mm.default", (torch.randn(3, 4), torch.randn(4, 2))).plan()
    graph, _ = lifted_graph(plan.graph, _values(plan.graph, given), given, (0,), Repetition())
    assert "aten.mm.default" in {node.op for node in graph.nodes}


def _values(graph: Graph, given: list[torch.Tensor]) -> dict[int, torch.Tensor]:
    made: dict[int, torch.Tensor] = dict(zip(graph.inputs, (t.to("meta") for t in given), strict=True))
    interpret(graph, given, lambda _, number, value: made.__setitem__(number, value.to("meta")))
    return made
