"""States and Plans that PySyft 0.2.9 wrote: each is written again byte for byte, with the values it holds."""

import json
import math
import pathlib

import numpy as np
import pytest

from fedplan.errors import TensorEncodingError
from fedplan.wire import DTYPES, State, WireTensor, schema
from tests.shared import FIXTURES
from tests.wire.google import PACKED
from tests.wire.random_messages import assert_same

STATES = sorted(FIXTURES.rglob("*.state.pb"))
PLANS = sorted(FIXTURES.rglob("*.plan.pb"))
MANIFEST = FIXTURES / "states" / "states_manifest.json"
ENTRIES = [
    entry
    for entry in (json.loads(MANIFEST.read_text()) if MANIFEST.exists() else [])
    if entry["file"] != "tagged.state.pb"  # of this one the manifest describes the tags, not the tensor
]

pytestmark = pytest.mark.skipif(not STATES, reason=f"no fixtures of PySyft in {FIXTURES}")


def _name(value):
    return str(value.relative_to(FIXTURES)) if isinstance(value, pathlib.Path) else value["file"]


@pytest.mark.parametrize("path", STATES, ids=_name)
def test_a_state_is_written_again_byte_for_byte(path):
    data = path.read_bytes()

    assert State.parse(data).serialize() == data
    assert_same(State.parse(data).message, PACKED["State"].FromString(data))


@pytest.mark.parametrize("path", PLANS, ids=_name)
def test_a_plan_is_written_again_byte_for_byte(path):
    data = path.read_bytes()

    assert schema.Plan.decode(data).encode() == data
    assert_same(schema.Plan.decode(data), PACKED["Plan"].FromString(data))


@pytest.mark.parametrize("entry", ENTRIES, ids=_name)
def test_a_state_holds_the_values_of_the_manifest(entry):
    state = State.parse((FIXTURES / "states" / entry["file"]).read_bytes())
    if entry["file"] == "contents_bin.state.pb":
        with pytest.raises(TensorEncodingError, match="pickle"):
            _ = state.tensors
        return

    assert len(state) == len(entry["tensors"])
    for tensor, expected in zip(state.tensors, entry["tensors"], strict=True):
        assert list(tensor.shape) == expected["shape"]
        assert tensor.dtype == expected["dtype"].removeprefix("torch.")
        values = _values(tensor).tolist()[: len(expected["data"])]
        assert [repr(v) for v in values] == [
            repr(type(v)(e)) for v, e in zip(values, expected["data"], strict=True)
        ]


@pytest.mark.parametrize("path", STATES, ids=_name)
def test_tensors_written_anew_hold_the_same_values(path):
    state = State.parse(path.read_bytes())
    if path.name == "contents_bin.state.pb":
        pytest.skip("holds a pickle")

    again = State.parse(State.of(state.tensors).serialize())

    for old, new in zip(state.tensors, again.tensors, strict=True):
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
        assert new.array.tobytes() == old.array.tobytes()


def _values(tensor: WireTensor) -> np.ndarray:
    if tensor.dtype == "bfloat16":
        return (tensor.array.astype("<u4") << 16).view("<f4").ravel()
    return tensor.array.ravel()


def test_every_dtype_that_pysyft_could_write_is_among_the_fixtures():
    written = {t["dtype"].removeprefix("torch.") for entry in ENTRIES for t in entry["tensors"]}

    assert set(DTYPES) - written == {"qint8", "quint8", "qint32"}
    assert math.isnan(float(next(e for e in ENTRIES if "special" in e["file"])["tensors"][0]["data"][0]))
