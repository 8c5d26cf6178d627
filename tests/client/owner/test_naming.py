"""Hosting a `state_dict`, and getting one back: the Plans know the names, and so the order."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fedplan.client import ModelCentricFLClient
from fedplan.client.owner.naming import in_order, tensor_names
from fedplan.errors import ConfigError, GridResponseError
from fedplan.plan import Plan, evaluation_plan, model_parameters, trace, training_plan

EXAMPLE = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {"training_plan": training_plan(make_net(), nn.functional.cross_entropy, example=EXAMPLE)}


def test_names_are_those_of_the_module_in_the_order_of_the_plan(plans: dict[str, Plan]) -> None:
    net = make_net()
    names = tensor_names(plans.values(), len(model_parameters(net)))
    assert names is not None
    assert names[:2] == ["0.weight", "0.bias"]
    assert set(names) == set(net.state_dict()) - {"1.num_batches_tracked"}
    assert tensor_names(plans.values(), 3) is None
    assert tensor_names([trace(torch.relu, torch.zeros(2))], 0) == []


def test_a_state_dict_is_hosted_in_the_order_of_the_plan_whatever_its_own_is(plans: dict[str, Plan]) -> None:
    net = make_net()
    given = dict(reversed(net.state_dict().items()))
    for ours, theirs in zip(in_order(given, plans), model_parameters(net), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_tensor_with_two_names_is_hosted_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    plans = {"training_plan": training_plan(net, nn.functional.cross_entropy, example=EXAMPLE)}
    assert len(in_order(net.state_dict(), plans)) == 3


@pytest.mark.parametrize(
    "other",
    [
        lambda net: net[0].weight.detach().reshape(-1)[:3],
        lambda net: net[0].weight.detach().reshape(3, 4),
        lambda net: net[0].weight.detach().view(torch.int32),
        lambda net: net[0].weight.detach().to("meta"),
    ],
)
def test_what_only_begins_where_another_tensor_does_is_no_second_name(
    plans: dict[str, Plan], other: Callable[[nn.Module], torch.Tensor]
) -> None:
    net = make_net()
    with pytest.raises(ConfigError, match="with 'part', which the Plan does not know"):
        in_order(net.state_dict() | {"part": other(net)}, plans)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: {k.replace("0.weight", "0.wieght"): v for k, v in d.items()},
            "without '0.weight', .* mean",
        ),
        (lambda d: d | {"head.weight": torch.zeros(2)}, "with 'head.weight', which the Plan does not know"),
        (lambda d: d | {"0.bias": [1.0]}, "'0.bias' of the model is a list, and no tensor"),
        (lambda d: {"model": d, "epoch": 3}, "without '0.weight'"),
    ],
)
def test_a_dict_that_is_not_the_modules_is_refused(plans: dict[str, Plan], change: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        in_order(change(dict(make_net().state_dict())), plans)


def test_without_names_nobody_knows_the_order() -> None:
    plans = {"training_plan": trace(lambda x, w: x * w, torch.zeros(2), torch.zeros(2))}
    with pytest.raises(ConfigError, match="none of the client_plans names its tensors"):
        in_order({"w": torch.zeros(2)}, plans)


@pytest.fixture(scope="module")
def hosted(url: str, plans: dict[str, Plan]) -> Iterator[tuple[ModelCentricFLClient, nn.Module]]:
    net = make_net()
    measuring = evaluation_plan(make_net(), nn.functional.cross_entropy, example=EXAMPLE)
    with ModelCentricFLClient(url) as grid:
        config = {"name": "named", "version": "1", "batch_size": 4, "lr": 0.1}
        grid.host_federated_training(
            net.state_dict(), plans | {"evaluation_plan": measuring}, config, {}, variants=[]
        )
        yield grid, net


def test_a_checkpoint_comes_with_its_names(hosted: tuple[ModelCentricFLClient, nn.Module]) -> None:
    grid, net = hosted
    fetched = grid.retrieve_state_dict("named", "1")
    other = make_net()
    assert other.load_state_dict(fetched, strict=False).unexpected_keys == []
    for ours, theirs in zip(other.parameters(), net.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_hosted_plan_can_be_fetched(
    hosted: tuple[ModelCentricFLClient, nn.Module], plans: dict[str, Plan]
) -> None:
    grid, _ = hosted
    assert grid.retrieve_plan("named", "1").serialize() == plans["training_plan"].serialize()
    assert grid.retrieve_plan("named", "1", "evaluation_plan").name == "evaluation_plan"
    with pytest.raises(
        GridResponseError, match="no Plan 'train'; its Plans are training_plan, evaluation_plan"
    ):
        grid.retrieve_plan("named", "1", "train")
    with pytest.raises(GridResponseError, match="'none'"):
        grid.retrieve_plan("none", "1")
