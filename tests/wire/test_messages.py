"""The JSON messages: read leniently, answered with exactly the keys that clients permit."""

import json

import pytest
from pydantic import ValidationError

from fedplan.wire import messages
from fedplan.wire.messages import (
    AuthenticateReply,
    AuthenticateRequest,
    CycleAccepted,
    CycleRejected,
    CycleRequest,
    ErrorReply,
    HostTrainingRequest,
    ReportRequest,
    Success,
    dump,
)

ACCEPTED = {
    "model": "mnist",
    "version": "1.0",
    "request_key": "abc",
    "plans": {"training_plan": 1},
    "protocols": {},
    "client_config": {"name": "mnist", "version": "1.0", "batch_size": 64, "lr": 0.1, "max_updates": 100},
    "model_id": 7,
}


def nulls(value):
    """Whether there is a null anywhere in an object."""
    if isinstance(value, dict):
        return any(item is None or nulls(item) for item in value.values())
    return False


@pytest.mark.parametrize(
    ("reply", "keys"),
    [
        (AuthenticateReply(worker_id="w"), {"status", "worker_id", "requires_speed_test"}),
        (CycleAccepted(**ACCEPTED), {"status", *ACCEPTED}),
        (CycleRejected(), {"status"}),
        (CycleRejected(timeout=30), {"status", "timeout"}),
        (Success(), {"status"}),
        (ErrorReply(error="no"), {"error"}),
    ],
)
def test_a_reply_has_exactly_the_keys_that_clients_permit(reply, keys):
    assert set(dump(reply)) == keys


def test_an_accepted_worker_gets_the_values_as_they_are():
    assert dump(CycleAccepted(**ACCEPTED)) == {"status": "accepted", **ACCEPTED}
    assert type(dump(CycleAccepted(**ACCEPTED))["model_id"]) is int


def test_no_null_is_sent_inside_the_client_config_either():
    config = {"name": "m", "lr": None, "own": {"a": None, "b": 1}, "list": [None, 1]}

    sent = dump(CycleAccepted(**ACCEPTED | {"client_config": config}))

    assert not nulls(sent)
    assert sent["client_config"] == {"name": "m", "own": {"b": 1}, "list": [None, 1]}


def test_a_timeout_is_a_whole_number():
    with pytest.raises(ValidationError):
        CycleRejected(timeout=7.5)


@pytest.mark.parametrize(("sent", "text"), [("1.0", "1.0"), (1, "1"), (1.5, "1.5")])
def test_numbers_are_taken_where_clients_send_them_for_texts(sent, text):
    assert AuthenticateRequest(model_name="m", model_version=sent).model_version == text
    assert CycleRequest(worker_id=sent, model="m", version=sent).worker_id == text
    assert ReportRequest(worker_id=sent, request_key="k", diff="").worker_id == text


@pytest.mark.parametrize("version", [True, ["1"], {}])
def test_other_things_are_no_version(version):
    with pytest.raises(ValidationError):
        AuthenticateRequest(model_name="m", model_version=version)


@pytest.mark.parametrize("token", [{}, {"auth_token": None}, {"auth_token": "t"}])
def test_a_token_may_be_absent_or_null(token):
    request = AuthenticateRequest.model_validate({"model_name": "m", "model_version": "1", **token})

    assert request.auth_token == token.get("auth_token")


def test_unknown_keys_of_a_request_are_ignored():
    assert AuthenticateRequest.model_validate({"model_name": "m", "type": "x"}).model_name == "m"


@pytest.mark.parametrize(
    "speeds",
    [
        {},
        {"ping": None},
        {"ping": -1},
        {"ping": 8, "download": -1, "upload": -1},
        {"upload": 0, "download": 46.5},
    ],
)
def test_speeds_may_be_absent_or_negative(speeds):
    request = CycleRequest.model_validate({"worker_id": "w", "model": "m", "version": "1", **speeds})

    assert [request.ping, request.download, request.upload] == [
        speeds.get(key) for key in ("ping", "download", "upload")
    ]


def test_a_model_without_a_plan_is_not_hosted():
    with pytest.raises(ValidationError, match="plans"):
        HostTrainingRequest(model="00", plans={}, client_config={}, server_config={})


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, messages.Request | messages.Reply)
    ],
)
def test_a_message_cannot_be_changed(kind):
    assert kind.model_config["frozen"]


def test_a_reply_is_json():
    assert json.loads(json.dumps(dump(CycleAccepted(**ACCEPTED)))) == {"status": "accepted", **ACCEPTED}
