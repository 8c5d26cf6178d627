import numpy as np
import pytest

from fedplan.errors import AggregationError
from fedplan.federation import ServerState


def test_a_state_is_stored_bit_for_bit_and_the_same_state_gives_the_same_bytes():
    rng = np.random.default_rng(0)
    state = ServerState(
        {"m": [rng.normal(size=s) for s in ((3, 4), (), (0,))], "v.x": [rng.normal(size=2)] * 12}
    )
    data = state.serialize()
    read = ServerState.parse(data)
    assert {name: [a.tobytes() for a in arrays] for name, arrays in read.tensors.items()} == {
        name: [a.tobytes() for a in arrays] for name, arrays in state.tensors.items()
    }
    assert [a.shape for a in read.tensors["m"]] == [(3, 4), (), (0,)]
    assert read.serialize() == data


def test_nothing_is_remembered_as_nothing():
    assert ServerState.parse(ServerState().serialize()) == ServerState()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip"])
def test_other_bytes_are_no_state(data):
    with pytest.raises(AggregationError, match="state of the strategy is damaged"):
        ServerState.parse(data)
