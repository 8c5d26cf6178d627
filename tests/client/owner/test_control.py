"""Controlling a hosted model with the owner's client, at a real grid."""

import numpy as np
import pytest

import fedplan
from fedplan.client import ModelCentricFLClient
from fedplan.errors import ConfigError, CycleRejectedError, GridResponseError
from tests.client.training_cases import BATCH, make_data, make_module, make_plan


@pytest.fixture
def model(owner: ModelCentricFLClient, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A model of its own, whose cycles have one report each."""
    name = request.node.name
    config = {"name": name, "version": "1.0", "batch_size": BATCH, "lr": 0.05}
    owner.host_federated_training(
        make_module(), {"training_plan": make_plan()}, config, {"max_diffs": 1, "num_cycles": 2}, variants=()
    )
    return name, "1.0"


def train(url: str, model: tuple[str, str]) -> None:
    fedplan.participate(url, *model, *make_data(), wait=10.0)


def test_a_paused_model_tells_workers_why_it_takes_none(
    owner: ModelCentricFLClient, url: str, model: tuple[str, str]
) -> None:
    owner.pause(*model)
    with pytest.raises(CycleRejectedError, match="the model is paused; ask again in 1 s"):
        fedplan.participate(url, *model, *make_data())
    owner.resume(*model)
    assert owner.status(model[0]).models[0].paused is None


def test_a_stopped_model_is_extended(owner: ModelCentricFLClient, model: tuple[str, str]) -> None:
    stopped = owner.stop(*model)
    assert stopped.cycle == 1
    assert "had 0 of 1 reports" in str(stopped.dropped)
    extended = owner.extend(*model, cycles=3)
    assert (extended.num_cycles, extended.closes_at) == (4, None)
    with pytest.raises(ConfigError, match="a number of cycles, or seconds"):
        owner.extend(*model)


def test_configurations_are_set_and_keys_taken_away(
    owner: ModelCentricFLClient, model: tuple[str, str]
) -> None:
    cycle = owner.set_configs(*model, server_config={"num_cycles": None}, client_config={"lr": np.float32(2)})
    assert cycle == 2
    assert owner.status(model[0]).models[0].num_cycles is None
    with pytest.raises(GridResponseError, match="'strategy' cannot be changed"):
        owner.set_configs(*model, server_config={"strategy": "fedavgm"})


def test_an_older_checkpoint_becomes_the_newest_which_a_wait_sees(
    owner: ModelCentricFLClient, url: str, model: tuple[str, str]
) -> None:
    train(url, model)
    owner.wait(*model, checkpoint=2, timeout=30)
    hosted = owner.retrieve_model(*model, 1).params
    back = owner.roll_back(*model, 1)
    assert (back.checkpoint, back.cycle) == (3, None)  # that cycle was the last of two
    assert all(map(np.array_equal, owner.retrieve_model(*model).params, hosted))
    owner.extend(*model, cycles=1)
    train(url, model)
    assert owner.wait(*model, checkpoint=4, timeout=30).checkpoints[0].number == 4
    assert [(row.number, row.cycle, row.source, row.dropped) for row in owner.checkpoints(*model)] == [
        (4, 3, None, None),
        (3, None, 1, None),
        (2, 1, None, True),
        (1, None, None, None),
    ]


async def test_the_same_goes_with_coroutines(owner: ModelCentricFLClient, model: tuple[str, str]) -> None:
    await owner.pause_async(*model)
    await owner.resume_async(*model)
    (row,) = await owner.checkpoints_async(*model)
    assert (row.number, row.cycle, row.source, row.aliases) == (1, None, None, ["latest"])
    with pytest.raises(GridResponseError, match="has no checkpoint 7"):
        await owner.promote_async(*model, 7)
    with pytest.raises(GridResponseError, match="would be lost"):
        await owner.delete_async(*model)
    await owner.delete_async(*model, force=True)
    assert "hosts no model" in str((await _refusal(owner, model)).value)


async def _refusal(
    owner: ModelCentricFLClient, model: tuple[str, str]
) -> pytest.ExceptionInfo[GridResponseError]:
    with pytest.raises(GridResponseError) as refusal:
        await owner.status_async(model[0])
    return refusal
