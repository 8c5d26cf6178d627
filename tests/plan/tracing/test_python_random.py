"""Numbers that a step draws with Python's or NumPy's own generators would be frozen: they are refused."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import trace, training_plan

X, Y = torch.randn(8, 4), torch.randint(0, 3, (8,))


def skipping(x: Tensor) -> Tensor:
    return x if random.random() < 0.5 else 2 * x


def scaled(x: Tensor) -> Tensor:
    return x * float(np.random.rand())


@pytest.mark.parametrize(("drawing", "generator"), [(skipping, "random"), (scaled, r"numpy\.random")])
def test_a_step_that_draws_is_refused_with_what_to_draw_from_instead(drawing: object, generator: str) -> None:
    with pytest.raises(TraceError, match=rf"draws numbers by `{generator}`.*Draw with torch"):
        trace(drawing, X)  # type: ignore[arg-type]


def test_a_model_that_draws_is_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x) * random.uniform(0.5, 1.5)
            return out

    with pytest.raises(TraceError, match="draws numbers by `random`"):
        training_plan(Net(), F.cross_entropy, example=(X, Y))


def test_what_another_thread_draws_once_is_none_of_the_steps() -> None:
    drawn = threading.Event()

    def step(x: Tensor) -> Tensor:
        if not drawn.is_set():
            thread = threading.Thread(target=lambda: (random.random(), drawn.set()))
            thread.start()
            thread.join()
        return 2 * x

    assert torch.equal(trace(step, X)(X)[0], 2 * X)
