"""Cycles, places and configurations, of which decisions about rounds are made."""

import dataclasses

from hypothesis import strategies as st

from fedplan.federation import Round, Task, round_of, strategy_of
from tests.federation.made import setting

NOW = 1000.0


@dataclasses.dataclass(frozen=True)
class Cycle:
    number: int = 1
    stage: str | None = None
    is_open: bool = True
    is_over: bool = False
    occupied: int = 0
    reported: int = 0
    deadline: float | None = None
    task: Task = Task.TRAINING
    evaluators: int = 0
    places: int | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    reported: bool = False
    released: bool = False
    aside: bool = False
    grants: int = 1
    lapses: int = 0


def config(**keys):
    return setting(keys).server


def round_with(**keys) -> Round:
    return round_of(strategy_of(setting(keys)))


def evaluated(**keys) -> Round:
    """The round of a model that was hosted with an evaluation Plan."""
    of_server = setting(keys)
    return round_of(strategy_of(dataclasses.replace(of_server, evaluates=True)))


counts = st.none() | st.integers(1, 5)
configs = st.builds(
    dict,
    min_workers=counts,
    max_workers=counts,
    pool_selection=st.sampled_from(["random", "iterate"]),
    num_cycles=counts,
    do_not_reuse_workers_until_cycle=counts,
    cycle_length=st.none() | st.floats(0.1, 1e5),
    min_diffs=counts,
    max_diffs=counts,
    minimum_upload_speed=st.none() | st.floats(0, 100),
)


def valid(keys):
    pairs = (("min_workers", "max_workers"), ("min_diffs", "max_diffs"), ("min_diffs", "max_workers"))
    return all(keys[a] is None or keys[b] is None or keys[a] <= keys[b] for a, b in pairs)
