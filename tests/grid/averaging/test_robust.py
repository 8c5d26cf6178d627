"""Cycles that a robust rule averages: all reports at once."""

import numpy as np
import pytest

from tests.grid.models import MODEL, hosting
from tests.grid.service.test_closing import run_cycle

HONEST = (1.0, 1.25, 1.5, 1.75, 2.0)


def moved(checkpoint):
    """By how much each tensor changed, which is one number throughout."""
    changes = [np.unique(old - new) for new, old in zip(checkpoint, MODEL, strict=True)]
    assert [change.size for change in changes] == [1, 1]
    return [float(change[0]) for change in changes]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("median", 1.5),
        ({"name": "trimmed_mean", "f": 2}, (1.25 + 1.5 + 1.75) / 3),
        ({"name": "krum", "f": 1}, 1.5),
        ({"name": "multi_krum", "f": 1, "m": 3}, 1.5),
        ({"name": "bulyan", "f": 1}, 1.5),
        ({"name": "median", "lr": 0.5}, 0.75),
    ],
    ids=str,
)
async def test_lies_do_not_move_the_model(peer, strategy, expected):
    await peer.host(server={"strategy": strategy, "max_diffs": 7, "max_norm": 1e31})
    await run_cycle(peer, *HONEST, -1e6, 1e30)
    assert moved(await peer.checkpoint()) == pytest.approx([expected] * 2, abs=1e-6)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            {"strategy": {"name": "krum", "f": 3}, "min_diffs": 5},
            "the strategy krum needs at least 9 reports, and a cycle may be averaged with 5: "
            "set 'min_diffs' to 9 or more, or set 'f' to at most 1",
        ),
        (
            {"strategy": "median", "max_diffs": 2},
            "the strategy median needs at least 3 reports, and a cycle may be averaged with 2: "
            "set 'min_diffs' to 3 or more",
        ),
        (
            {"strategy": {"name": "bulyan", "f": 3}, "max_diffs": 5000},
            "the strategy bulyan takes at most 4096 reports, and a cycle may have 5000: "
            "set 'max_diffs' to 4096 or less",
        ),
    ],
    ids=["f", "least", "most"],
)
async def test_cycles_in_which_a_rule_cannot_work_are_refused_at_hosting(peer, server, message):
    reply = await peer.post("host-training", **hosting(server=server))
    assert reply.status_code == 400
    assert reply.json()["error"].endswith(message)
