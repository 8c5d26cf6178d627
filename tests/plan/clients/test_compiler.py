"""What an executor for many clients is made of."""

import torch
from torch import nn
from torch.nn import functional as F

from fedplan.plan import Plan, model_parameters, training_plan
from fedplan.plan.clients.compiler import lifted_graph
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import dtype_name
from fedplan.plan.run.check import first_run, measure
from fedplan.plan.run.compiler import Repetition
from tests.plan.clients.agreement import RATE, Federation
from tests.plan.families import images, mlp, sgd, vectors


def lifted(plan: Plan, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> Graph:
    federation = Federation(plan, model_parameters(model))
    one = federation.start()
    for place, value in zip(federation.varying, batch, strict=True):
        one[place] = value
    measured = measure(plan.graph, [(tuple(t.shape), dtype_name(t.dtype)) for t in one])
    _, values = first_run(plan.graph, one, measured)
    carried = tuple((output, place) for place, output in federation.carried.items())
    fixed = tuple((place, one[place].item()) for place in federation.fixed)
    apart = (*federation.varying, *federation.carried)
    return lifted_graph(plan.graph, values, one, apart, Repetition(fixed, carried))[0]


def updates(graph: Graph, plan: Plan) -> dict[str, Node]:
    """The operation that makes each trained parameter, by the parameter's name."""
    makers = {number: node for node in graph.nodes for number in node.results}
    return {
        plan.inputs[place].name: makers[graph.outputs[output]]
        for place, output in Federation(plan, []).carried.items()
    }


def test_the_update_of_a_weight_is_one_product_on_the_parameters_of_all_clients() -> None:
    model = mlp()
    plan = training_plan(model, F.cross_entropy, example=vectors(5))
    graph = lifted(plan, model, vectors(4))
    made = updates(graph, plan)
    for name in ("0.weight", "2.weight"):
        place = [item.name for item in plan.inputs].index(name)
        assert made[name].op == "aten.baddbmm.default"
        assert made[name].args[0] == Ref(graph.inputs[place])
        assert made[name].args[4] == -torch.tensor(RATE).item()
    for name in ("0.bias", "2.bias"):
        assert made[name].op == "aten.add.Tensor"
        assert made[name].args[2] == -torch.tensor(RATE).item()


def test_an_optimizer_with_state_updates_it_without_another_operation_for_each_client() -> None:
    model = mlp()
    plan = training_plan(model, F.cross_entropy, example=vectors(5), optimizer=sgd(momentum=0.9))
    alone = {node.op for node in plan.graph.nodes}
    graph = lifted(plan, model, vectors(4))
    assert len(graph.nodes) < 2 * len(plan.graph.nodes)
    assert {node.op for node in graph.nodes} - alone <= {
        "aten.baddbmm.default", "aten.bmm.default", "aten.expand.default", "aten.reshape.default",
        "aten.permute.default", "aten.amax.default", "aten.exp.default", "aten.log.default",
        "aten.sub.Tensor", "aten.sum.dim_IntList", "aten.add.Tensor", "aten.div.Tensor",
        "clients.nll_loss_forward.default",
    }  # fmt: skip


def test_activations_between_convolutions_are_not_laid_out_anew() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    plan = training_plan(model, F.cross_entropy, example=images(5))
    graph = lifted(plan, model, images(4))
    pools = [node for node in graph.nodes if node.op == "aten.max_pool2d_with_indices.default"]
    convolutions = {node.results[0] for node in graph.nodes if node.op == "aten.convolution.default"}
    assert [next(node.refs()) in convolutions for node in pools] == [True]
