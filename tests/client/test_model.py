from typing import Any

import pytest
import torch
from torch import nn

from fedplan.client import SyftModel
from fedplan.errors import ModelMismatchError, WireError
from fedplan.plan import model_parameters
from fedplan.wire import State


def make() -> SyftModel:
    return SyftModel([torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0])])


async def test_params_go_to_protobuf_and_back_bit_by_bit() -> None:
    model = make()
    data = await model.to_protobuf()
    assert data == model.serialize()
    again = SyftModel.parse(data)
    assert all(torch.equal(a, b) for a, b in zip(again.params, model.params, strict=True))
    again.params[0].add_(1)  # its memory is its own


async def test_the_protobuf_has_the_placeholders_that_browsers_send() -> None:
    message = State.parse(await make().to_protobuf()).message
    assert [p.tags for p in message.placeholders] == [["#0", "#state-0"], ["#1", "#state-1"]]
    assert [p.id.id_int for p in message.placeholders if p.id] == [0, 1]


async def test_a_diff_is_original_minus_trained() -> None:
    model = make()
    trained = [p + 0.5 for p in model.params]
    data = await model.create_serialized_diff(trained)
    assert [p.tolist() for p in SyftModel.parse(data).params] == [[[-0.5, -0.5], [-0.5, -0.5]], [-0.5]]
    assert await model.create_serialized_diff_from_model(SyftModel(trained)) == data


@pytest.mark.parametrize("params", [None, "params", torch.zeros(2), nn.Linear(2, 2), [1.0], [None], b"bytes"])
def test_what_is_no_list_of_tensors_is_no_model(params: Any) -> None:
    with pytest.raises(ModelMismatchError, match=r"must be a list of tensors|and no tensor"):
        SyftModel(params)
    with pytest.raises(ModelMismatchError, match=r"must be a list of tensors|and no tensor"):
        make().diff(params)


@pytest.mark.parametrize("module", [None, "module", make()])
def test_a_model_is_loaded_into_a_module_and_nothing_else(module: Any) -> None:
    with pytest.raises(ModelMismatchError, match=r"loaded into an nn\.Module"):
        make().load_into(module)


@pytest.mark.parametrize("data", [None, "text", 5])
def test_a_model_is_read_from_bytes_and_nothing_else(data: Any) -> None:
    with pytest.raises(WireError, match="a message is read from bytes"):
        SyftModel.parse(data)


async def test_a_diff_of_parameters_that_do_not_fit_is_refused() -> None:
    with pytest.raises(ModelMismatchError, match="has 2 parameters, the updated parameters are 1"):
        await make().create_serialized_diff([torch.zeros(2, 2)])
    with pytest.raises(ModelMismatchError, match=r"parameter 1 .* \[1\]; .* \[3\]"):
        await make().create_serialized_diff([torch.zeros(2, 2), torch.zeros(3)])


def test_a_diff_needs_no_gradient() -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert not SyftModel([parameter]).diff([parameter]).params[0].requires_grad


def test_bytes_that_are_no_state_are_refused() -> None:
    with pytest.raises(WireError):
        SyftModel.parse(b"\xff\xff\xff")


def test_a_model_is_loaded_into_a_module_buffers_included() -> None:
    hosted = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    hosted(torch.randn(5, 2))  # moves the running statistics
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    SyftModel(model_parameters(hosted)).load_into(other)
    ours, theirs = model_parameters(other), model_parameters(hosted)
    assert len(ours) == 6
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(p.requires_grad for p in other.parameters())


def test_a_module_of_another_shape_is_left_as_it_is() -> None:
    module = nn.Linear(2, 2)
    before = [p.clone() for p in model_parameters(module)]
    with pytest.raises(ModelMismatchError, match=r"the module's parameters it has \[2\]"):
        make().load_into(module)
    assert all(torch.equal(a, b) for a, b in zip(model_parameters(module), before, strict=True))
