"""A Plan computes in the dtypes that it names, also within `torch.autocast`."""

import torch
from torch.nn import functional as F

from fedplan.plan import trace


def test_autocast_changes_nothing_in_a_plan() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(5, 64), torch.randn(64, 64)
    plan = trace(lambda x, w: F.linear(x, w).relu() @ torch.ones(64, 2), x, w)
    expected = plan(x, w)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.linear(x, w).dtype == torch.bfloat16
        made = plan(x, w)[0]
        anew = trace(lambda x: x, x)  # what is made within it is called within it
        assert anew(x)[0].dtype == torch.float32
    assert torch.equal(made, expected)
