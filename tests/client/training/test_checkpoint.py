import base64
import json
from typing import Any

import pytest
import torch

from fedplan.client import PlanTrainerCheckpoint, SyftModel
from fedplan.errors import CheckpointError
from tests.client.training_cases import make_plan, make_trainer

MODEL = base64.b64encode(SyftModel([torch.tensor([1.5])]).serialize()).decode()
BROWSER: dict[str, Any] = {
    "epochs": 3,
    "stepsPerEpoch": None,
    "batchSize": 64,
    "clientConfig": {"lr": 0.1},
    "epoch": 1,
    "batch": 4,
    "currentModelBase64": MODEL,
}


async def test_the_json_has_the_references_keys_and_no_others() -> None:
    checkpoint = make_trainer().create_checkpoint()
    assert list(await checkpoint.to_json()) == list(BROWSER)
    assert json.loads(json.dumps(await checkpoint.to_json())) == checkpoint.to_dict()


async def test_an_optimizer_adds_its_state() -> None:
    checkpoint = make_trainer(plan=make_plan("Adam")).create_checkpoint()
    assert list(checkpoint.to_dict()) == [*BROWSER, "optimizerStateBase64"]


def test_a_browsers_checkpoint_is_read() -> None:
    checkpoint = PlanTrainerCheckpoint.from_json(None, BROWSER)
    assert (checkpoint.epochs, checkpoint.steps_per_epoch, checkpoint.batch_size) == (3, None, 64)
    assert (checkpoint.epoch, checkpoint.batch, checkpoint.client_config) == (1, 4, {"lr": 0.1})
    assert checkpoint.current_model.params[0].tolist() == [1.5]
    assert checkpoint.optimizer_state is None
    assert checkpoint.loader_state is None


def test_json_text_is_read_too_and_unknown_keys_are_ignored() -> None:
    text = json.dumps({**BROWSER, "originalModel": {}})
    assert PlanTrainerCheckpoint.from_json(None, text).to_dict() == BROWSER
    assert PlanTrainerCheckpoint.from_json(None, text.encode()).to_dict() == BROWSER


def test_base64_with_line_breaks_is_read() -> None:
    broken = {**BROWSER, "currentModelBase64": "\n".join([MODEL[:20], MODEL[20:]])}
    assert PlanTrainerCheckpoint.from_json(None, broken).to_dict() == BROWSER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": None}, "epoch must be a whole number, not None"),
        ({"batch": -1}, "batch must be"),
        ({"epochs": "3"}, "epochs must be"),
        ({"batchSize": 6.4}, "batchSize must be"),
        ({"clientConfig": [1]}, "clientConfig must be an object"),
        ({"loaderState": "x"}, "loaderState must be an object"),
        ({"currentModelBase64": None}, "currentModelBase64 is not the base64 of a State"),
        ({"currentModelBase64": "!!!!"}, "currentModelBase64 is not"),
        ({"currentModelBase64": "aGVsbG8gd29ybGQ="}, "currentModelBase64 is not"),
        ({"optimizerStateBase64": "!"}, "optimizerStateBase64 is not"),
    ],
)
def test_what_is_wrong_in_a_checkpoint_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        PlanTrainerCheckpoint.from_json(None, {**BROWSER, **change})


@pytest.mark.parametrize("obj", ["{", "[1]", 3])
def test_what_is_no_json_object_is_refused(obj: Any) -> None:
    with pytest.raises(CheckpointError, match="not"):
        PlanTrainerCheckpoint.from_json(None, obj)
