"""What schemathesis is told of a grid: values that are sound, so that calls lead on to others.

A model in hexadecimal or the name of a hosted one is not found by chance. So where a value has one of the
names below, a sound one takes its place more often than not. schemathesis imports this module itself; at its
end it writes what was answered, as JSON, to the file that `FEDPLAN_FUZZ_ANSWERS` names.
"""

import atexit
import collections
import json
import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.fuzz.api import ANSWERS
from tests.grid.models import MODEL, base64_of, diff, iterative_plan, state, training_plan

_NAMES = st.sampled_from(["m", "n", "secure"])
_ENDED = st.just("n")
"""Of models that are stopped, paused and deleted; the others go on, so that workers can join them."""

_ENDING = ("/stop", "/pause", "/delete", "/set", "/extend")
_CLIENT = {"version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1}
_SERVERS: list[dict[str, Any]] = [
    {"max_diffs": 1},
    {"max_diffs": 3, "min_diffs": 2, "num_cycles": 4},
    {"cycle_length": 60, "pool_selection": "random"},
    {"strategy": {"name": "fedbuff", "k": 3}},
    {"secure_aggregation": {"workers": 5, "clip": 1.0}, "num_cycles": 2},
]

_SOUND: dict[str, st.SearchStrategy[Any]] = {
    "name": _NAMES,
    "model_name": _NAMES,
    "model": _NAMES,
    "version": st.just("1.0"),
    "model_version": st.just("1.0"),
    "checkpoint": st.sampled_from(["latest", 1, 2]),
    "diff": st.sampled_from([base64_of(diff(1)), base64_of(diff(0.5))]),
    "model_id": st.integers(1, 3),
    "plan_id": st.integers(1, 5),
    "ping": st.just(8.0),
    "download": st.just(46.3),
    "upload": st.just(23.7),
    "receive_operations_as": st.sampled_from(["list", "tfjs", "torchscript"]),
    "secure_aggregation": st.booleans(),
    "cycles": st.integers(1, 3),
    "seconds": st.just(60),
    "server_config": st.just({"max_diffs": 4}),
}
_SOUND_OF_HOSTING: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just(state(*MODEL).hex()),
    "plans": st.just({"training_plan": training_plan().hex()}),
    "protocols": st.just({}),
    "averaging_plan": st.sampled_from([None, None, iterative_plan().hex()]),
    "client_config": _NAMES.map(lambda name: {"name": name, **_CLIENT}),
    "server_config": st.sampled_from(_SERVERS),
}


@schemathesis.hook
def flatmap_body(context: Any, body: Any) -> st.SearchStrategy[Any]:
    """Sound values in a body."""
    if context.operation.path.endswith("/host-training"):
        return _mostly_sound(body, _SOUND_OF_HOSTING)
    ends = context.operation.path.endswith(_ENDING)
    return _mostly_sound(body, _SOUND | ({"name": _ENDED} if ends else {}))


@schemathesis.hook
def flatmap_query(context: Any, query: Any) -> st.SearchStrategy[Any]:
    """Sound values in a query."""
    return _mostly_sound(query, _SOUND)


def _mostly_sound(given: Any, sound: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    names = [name for name in sound if isinstance(given, dict) and name in given]
    if not names:
        return st.just(given)
    # as a whole in three of four cases, for a body with one value by chance among six is refused
    whole = st.fixed_dictionaries({name: sound[name] for name in names})
    some = st.fixed_dictionaries({}, optional={name: sound[name] for name in names})
    return st.one_of(whole, whole, whole, some).map(lambda put: {**given, **put})


_statuses: collections.Counter[str] = collections.Counter()
_slowest = [0.0, ""]


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Counts an answer."""
    _statuses[f"{case.operation.label} {response.status_code}"] += 1
    _slowest[:] = max(_slowest, [response.elapsed, case.operation.label])


@atexit.register
def _tell() -> None:
    if ANSWERS in os.environ:
        told = {"statuses": dict(sorted(_statuses.items())), "slowest": _slowest}
        Path(os.environ[ANSWERS]).write_text(json.dumps(told))
