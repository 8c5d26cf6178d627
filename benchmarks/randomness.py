"""A Plan's random inputs against PyTorch's own random numbers: dropout with its gradient, and single draws.

Our side of dropout fills the input, makes the mask of it, and applies the mask to an activation and to a
gradient; the other side is `F.dropout` and its backward. The mask is made with the operations that a Plan
holds, and again with those that write it over the draw, as an executor may. One thread.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from benchmarks.line import Line, Options
from benchmarks.timing import Comparison, interleave
from fedplan.plan.random import RandomStream

SHAPES = ((64, 512), (64, 4096), (512, 4096), (4096, 4096))
P = 0.1
STREAM = RandomStream(1)

SMALL = (64, 32)
INPUTS = 37
"""How many dropouts a transformer of twelve layers has."""


def run(options: Options) -> list[Line]:
    """Dropout, then draws of each distribution, then many small draws."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shapes = SHAPES[:1] if options.smoke else SHAPES
        return [
            *(_dropout(shape, "", _mask, options) for shape in shapes),
            *(_dropout(shape, ", in place", _mask_in_place, options) for shape in shapes),
            *(_draw("uniform numbers", STREAM.uniform, torch.rand, shape, options) for shape in shapes),
            *(_draw("normal numbers", STREAM.normal, torch.randn, shape, options) for shape in shapes),
            _many(options),
        ]
    finally:
        torch.set_num_threads(threads)


def _mask(drawn: torch.Tensor) -> torch.Tensor:
    return torch.ge(drawn, P).to(torch.float32).mul(1 / (1 - P))


def _mask_in_place(drawn: torch.Tensor) -> torch.Tensor:
    return drawn.ge_(P).mul_(1 / (1 - P))


def _dropout(
    shape: tuple[int, ...], how: str, mask_of: Callable[[torch.Tensor], torch.Tensor], options: Options
) -> Line:
    x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
    held = x.detach()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            mask = mask_of(STREAM.uniform(shape, cycle=0, step=0, number=0))
            return held * mask, gradient * mask

    def eager() -> tuple[torch.Tensor, ...]:
        dropped = F.dropout(x, P)
        return dropped, *torch.autograd.grad(dropped, x, gradient)

    return _compared(ours, eager, shape, options).line(f"dropout {_product(shape)}{how}", 1.1)


def _draw(
    what: str,
    ours: Callable[..., torch.Tensor],
    theirs: Callable[..., torch.Tensor],
    shape: tuple[int, ...],
    options: Options,
) -> Line:
    measured = _compared(
        lambda: ours(shape, cycle=0, step=0, number=0), lambda: theirs(shape), shape, options
    )
    return measured.line(f"{what} {_product(shape)}", math.inf)


def _many(options: Options) -> Line:
    """What it costs that each random input is drawn for itself, and not all as one tensor."""

    def single() -> None:
        for number in range(INPUTS):
            STREAM.uniform(SMALL, cycle=0, step=0, number=number)

    def together() -> Sequence[torch.Tensor]:
        rows, columns = SMALL
        return STREAM.uniform((INPUTS, rows, columns), cycle=0, step=0, number=0).unbind()

    measured = _repeated(single, together, 2 if options.smoke else 50, INPUTS, options)
    return measured.excess(f"{INPUTS} inputs of {_product(SMALL)} drawn singly, an input", 10)


def _compared(
    ours: Callable[[], object], theirs: Callable[[], object], shape: Sequence[int], options: Options
) -> Comparison:
    """Each side as often as takes some tens of milliseconds."""
    times = 2 if options.smoke else max(1, (1 << 22) // math.prod(shape))
    return _repeated(ours, theirs, times, 1, options)


def _repeated(
    ours: Callable[[], object], theirs: Callable[[], object], times: int, units: int, options: Options
) -> Comparison:
    def often(side: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                side()

        return run

    return interleave(
        often(ours),
        often(theirs),
        rounds=options.rounds(30),
        units=times * units,
        clock=time.process_time,
    )


def _product(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
