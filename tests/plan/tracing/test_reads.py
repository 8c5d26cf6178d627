"""Reads of values that only guard against errors are left out of a Plan; all others are refused.

PYTEST_DONT_REWRITE: the asserts below are read as they stand.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from fedplan.errors import TraceError
from fedplan.plan import trace

Step = Callable[[torch.Tensor], torch.Tensor]


def asserted(x: torch.Tensor) -> torch.Tensor:
    assert not torch.isnan(x).any(), f"{x} is not a number"
    return x * 2


def raised(x: torch.Tensor) -> torch.Tensor:
    if (x > 100).any() or torch.isinf(x).any().item():
        raise ValueError("too large" if x.sum() > 0 else "too small")
    return x * 2


def asserted_number(x: torch.Tensor) -> torch.Tensor:
    assert x.abs().max().item() < 100
    return x * 2


def asserted_in_with(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        assert torch.isfinite(x).all()
    return x * 2


@contextlib.contextmanager
def announced(text: str) -> Iterator[None]:
    print(text)
    try:
        yield
    finally:
        print("done")


def asserted_in_own_with(x: torch.Tensor) -> torch.Tensor:
    with announced("checks"), torch.autograd.set_detect_anomaly(False):
        assert torch.isfinite(x).all()
    return x * 2


def asserted_in_held_with(x: torch.Tensor) -> torch.Tensor:
    lock, grad = threading.Lock(), torch.no_grad()
    with lock, grad:
        assert torch.isfinite(x).all()
    return x * 2


def asserted_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    torch._assert((x < 100).all(), "too large")
    return x * 2


def raised_again(x: torch.Tensor) -> torch.Tensor:
    try:
        asserted(x)
    except AssertionError as error:
        raise ValueError("bad input") from error
    return x * 2


@pytest.mark.parametrize(
    "step",
    [
        asserted,
        raised,
        asserted_number,
        asserted_in_with,
        asserted_in_own_with,
        asserted_in_held_with,
        asserted_by_pytorch,
        raised_again,
    ],
)
def test_a_check_that_can_only_raise_is_left_out(step: Step) -> None:
    plan = trace(step, torch.ones(4, 3))
    assert [node.op for node in plan.graph.nodes] == ["aten.mul.Tensor"]
    assert torch.equal(plan(torch.ones(5, 3))[0], torch.full((5, 3), 2.0))


def chosen(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.sum() > 0 else x


def returned(x: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(x).all():
        return x
    return x * 2


def caught(x: torch.Tensor) -> torch.Tensor:
    try:
        if x.sum() > 0:
            raise ValueError
    except ValueError:
        return x
    return x * 2


def caught_outside(x: torch.Tensor) -> torch.Tensor:
    with contextlib.ExitStack():
        try:
            asserted(x)
        except AssertionError:
            x = x + 1
    return x * 2


def suppressed(x: torch.Tensor) -> torch.Tensor:
    with contextlib.suppress(ValueError):
        if not torch.isfinite(x).all():
            raise ValueError
        x = x * 2
    return x


def suppressed_by_a_name(x: torch.Tensor) -> torch.Tensor:
    quiet = contextlib.suppress(AssertionError)
    with torch.no_grad(), quiet, torch.no_grad():
        assert torch.isfinite(x).all()
        x = x * 2
    return x + 1


def suppressed_outside(x: torch.Tensor) -> torch.Tensor:
    with contextlib.suppress(AssertionError), torch.no_grad():
        x = asserted(x)
    return x * 2


def suppressed_by_a_stack(x: torch.Tensor) -> torch.Tensor:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(AssertionError))
        x = asserted(x)
    return x * 2


class Quiet:
    """A context manager of the author's."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> bool:
        return True


def suppressed_by_a_class(x: torch.Tensor) -> torch.Tensor:
    with Quiet():
        x = asserted(x)
    return x * 2


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    try:
        with torch.no_grad():
            yield
    except AssertionError:
        print("failed")


def suppressed_by_a_generator(x: torch.Tensor) -> torch.Tensor:
    with quiet():
        x = asserted(x)
    return x * 2


def suppressed_by_a_decorator(x: torch.Tensor) -> torch.Tensor:
    doubled = quiet()(asserted)(x)
    return x if doubled is None else doubled


def caught_outside_of_with(x: torch.Tensor) -> torch.Tensor:
    try:
        with torch.no_grad():
            assert torch.isfinite(x).all()
    except AssertionError:
        return x
    return x * 2


def kept(x: torch.Tensor) -> torch.Tensor:
    positive = bool((x > 0).all())
    return x * 2 if positive else x


def repeated(x: torch.Tensor) -> torch.Tensor:
    while x.sum() > 3:
        x = x / 2
    return x


def compared(x: torch.Tensor) -> torch.Tensor:
    return x * min(x.sum().item(), 1.0)


def warned(x: torch.Tensor) -> torch.Tensor:
    if torch.isnan(x).any():
        print("not a number")
    return x * 2


@pytest.mark.parametrize(
    "step",
    [
        suppressed,
        suppressed_by_a_name,
        suppressed_outside,
        suppressed_by_a_stack,
        suppressed_by_a_class,
        suppressed_by_a_generator,
        suppressed_by_a_decorator,
    ],
)
def test_a_check_in_a_block_that_may_swallow_its_error_is_refused(step: Step) -> None:
    with pytest.raises(TraceError, match=r"read into Python at test_reads\.py:"):
        trace(step, torch.ones(4, 3))


class Scaled:
    """Has a scale for small numbers only."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    @property
    def scale(self) -> float:
        if (self.x > 1).any():
            raise AttributeError("there is none")
        return 5.0


def asked_by_hasattr(x: torch.Tensor) -> torch.Tensor:
    return x * (5 if hasattr(Scaled(x), "scale") else 2)


class Halves:
    """Halves of a tensor, until they are small."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __iter__(self) -> "Halves":
        return self

    def __next__(self) -> torch.Tensor:
        if (self.x < 1).all():
            raise StopIteration
        self.x = self.x / 2
        return self.x


def ended_by_an_iterator(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([half.sum() for half in itertools.islice(Halves(x), 3)])


@pytest.mark.parametrize(
    "step",
    [
        chosen,
        returned,
        caught,
        caught_outside,
        caught_outside_of_with,
        kept,
        repeated,
        compared,
        warned,
        asked_by_hasattr,
        ended_by_an_iterator,
    ],
)
def test_a_read_that_has_two_ways_on_is_refused(step: Step) -> None:
    with pytest.raises(TraceError, match=r"read into Python at test_reads\.py:"):
        trace(step, torch.ones(4, 3))
