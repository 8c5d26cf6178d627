"""What clients remember: in memory as far as there is room, then on disk, and as it was after each cycle."""

import gc
from pathlib import Path

import pytest
import torch

from fedplan.errors import CheckpointError
from fedplan.simulation.states import ClientState, ClientStates
from tests.simulation.cases import simulate


def state(number: float, elements: int = 100) -> ClientState:
    return ClientState({2: torch.full((elements,), number), 0: torch.ones(3)}, [torch.ones(2)], 4)


def number_of(states: ClientStates, client: int) -> float:
    return float(states.get(client).private[2][0])


def test_a_state_comes_back_from_its_bytes() -> None:
    kept = ClientState.parse(state(7.0).serialize())
    assert kept.private.keys() == {0, 2}
    assert torch.equal(kept.private[2], torch.full((100,), 7.0))
    assert torch.equal(kept.lost[0], torch.ones(2))
    assert kept.epoch == 4


def test_those_of_a_simulation_are_gone_when_it_has_ended() -> None:
    result = simulate(kind="scaffold", server={"strategy": {"name": "scaffold", "population": 10}})
    gc.collect()
    assert [found for found in gc.get_objects() if type(found) is ClientStates] == []
    assert len(result.history) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64])
def test_of_any_dtype(dtype: torch.dtype) -> None:
    kept = ClientState.parse(ClientState({1: torch.arange(5).to(dtype)}).serialize())
    assert torch.equal(kept.private[1], torch.arange(5).to(dtype))


@pytest.mark.parametrize("at", [0, 5, 40, -1])
def test_bytes_that_are_damaged_are_no_state(at: int) -> None:
    data = bytearray(state(1.0).serialize())
    data[at] ^= 255
    with pytest.raises(CheckpointError, match="damaged"):
        ClientState.parse(bytes(data))


def test_who_was_never_seen_remembers_nothing_and_takes_no_room() -> None:
    states = ClientStates(1 << 20)
    assert states.get(5).is_empty
    states.put(6, ClientState())
    assert len(states) == 0


def test_without_room_in_memory_states_are_on_disk(tmp_path: Path) -> None:
    one = state(0.0).nbytes
    states = ClientStates(3 * one, tmp_path)
    for client in range(10):
        states.put(client, state(float(client)))
    assert len(list(tmp_path.iterdir())) == 7
    assert [number_of(states, client) for client in range(10)] == list(range(10))
    assert len(states) == 10


def test_a_folder_that_nobody_named_goes_with_the_object() -> None:
    states = ClientStates(0)
    states.put(1, state(3.0))
    states.begin(2)
    states.put(1, state(4.0))
    (folder,) = {path.parent for path in states._files.values()}
    assert len(list(folder.iterdir())) == 1
    assert number_of(states, 1) == 4.0
    states.close()
    assert not folder.exists()


@pytest.mark.parametrize("memory", [0, 1 << 20])
class TestAfterAKill:
    def test_states_are_those_of_the_cycle_that_counts(self, tmp_path: Path, memory: int) -> None:
        states = ClientStates(memory, tmp_path)
        states.begin(1)
        for client in (1, 2):
            states.put(client, state(10.0 + client))
        states.write()
        states.settle()
        states.begin(2)
        for client in (2, 3):
            states.put(client, state(20.0 + client))
        states.write()  # and is killed before anybody knows of cycle 2
        found = ClientStates(memory, tmp_path, cycle=1)
        assert [number_of(found, client) for client in (1, 2)] == [11.0, 12.0]
        assert found.get(3).is_empty
        assert len(list(tmp_path.iterdir())) == 2

    def test_older_states_are_deleted(self, tmp_path: Path, memory: int) -> None:
        states = ClientStates(memory, tmp_path)
        for cycle in (1, 2):
            states.begin(cycle)
            states.put(1, state(float(cycle)))
            states.write()  # and is killed between this and `settle`, the second time
        found = ClientStates(memory, tmp_path, cycle=2)
        assert number_of(found, 1) == 2.0
        assert [path.name for path in tmp_path.iterdir()] == ["1-2"]

    def test_other_files_are_left_alone(self, tmp_path: Path, memory: int) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        ClientStates(memory, tmp_path)
        assert (tmp_path / "notes.txt").exists()
