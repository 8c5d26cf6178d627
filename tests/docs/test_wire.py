"""The tables of docs/wire.md are the messages and fields of the code, and its calls are answered."""

import dataclasses
import re
from pathlib import Path

import httpx
import pytest
import torch

import fedplan
from fedplan.grid import Settings, create_app
from fedplan.wire import schema
from fedplan.wire.messages import message, worker
from tests.client.small_grid import serve
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "wire.md"
MESSAGES = {
    "authenticate": (worker.AuthenticateRequest, [worker.AuthenticateReply]),
    "cycle-request": (worker.CycleRequest, [worker.CycleAccepted, worker.CycleRejected]),
    "get-model": (worker.ModelRequest, []),
    "get-plan": (worker.PlanRequest, []),
    "get-protocol": (worker.ProtocolRequest, []),
    "report": (worker.ReportRequest, [message.Success]),
    "decline": (worker.DeclineRequest, [message.Success]),
}


def rows(heading: str) -> list[list[str]]:
    section = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]


def keys(cell: str) -> tuple[set[str], set[str]]:
    """What a cell names: keys that are needed, and behind "and" those that may be absent."""
    needed, _, optional = cell.partition(" and ")
    return set(re.findall(r"`(\w+)`", needed)), set(re.findall(r"`(\w+)`", optional))


def fields(kind: type[message.BaseModel]) -> tuple[set[str], set[str]]:
    """Those that a message always has on the wire, and the others."""
    always = {name for name, each in kind.model_fields.items() if each.is_required() or name == "status"}
    return always, set(kind.model_fields) - always


def test_a_call_is_asked_with_the_keys_of_the_table() -> None:
    assert {name.strip(" `") for name, *_ in rows("A worker's calls")} == set(MESSAGES)
    for name, _, asked, _ in rows("A worker's calls"):
        assert keys(asked) == fields(MESSAGES[name.strip(" `")][0]), name


def test_a_call_is_answered_with_the_keys_of_the_table() -> None:
    for name, _, _, answered in rows("A worker's calls"):
        replies = MESSAGES[name.strip(" `")][1]
        named = [set().union(*keys(part)) for part in answered.split(";")]
        if replies:
            assert named == [set(reply.model_fields) for reply in replies], name
        else:
            assert "bytes" in answered


def test_fields_of_messages_have_the_numbers_of_the_table() -> None:
    found = rows("Bytes")
    for name, field, number, _ in found:
        kind = getattr(schema, name.strip(" `"))
        (declared,) = [each for each in dataclasses.fields(kind) if each.name == field.strip(" `")]
        assert declared.metadata["protobuf"].number == int(number), (name, field)
    assert len(found) > 15


def test_the_example_reads_what_it_wrote() -> None:
    (example,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    exec(example, {})


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_calls_are_taken_with_the_verb_of_the_table(verb: str, tmp_path: Path) -> None:
    named = [(name.strip(" `"), verbs) for name, verbs, *_ in rows("A worker's calls")]
    with serve(create_app(Settings(data_dir=tmp_path))) as url, httpx.Client(base_url=url) as client:
        for name, verbs in named:
            status = client.request(verb, f"/model-centric/{name}").status_code
            assert (status in (404, 405)) == (verb not in verbs), (name, status)


def test_a_state_has_the_fields_of_the_table() -> None:
    state = schema.State.decode(fedplan.SyftModel([torch.eye(2)]).serialize())
    (tensor,) = state.tensors
    assert tensor.torch_tensor is not None
    assert tensor.torch_tensor.serializer == 4
    assert tensor.torch_tensor.contents_data is not None
    assert tensor.torch_tensor.contents_data.dtype == "float32"
    assert state.placeholders[0].tags[-1] == "#state-0"
