"""Elements that are chosen by numbers, and put at places, are the same in tfjs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedplan.errors import TranslationError
from fedplan.plan import trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute
from tests.plan.variants.tfjs.agreement import agrees, close, gradients, role_of

X = torch.zeros(4, 3)
CUBE = torch.zeros(4, 3, 5)
PICTURES = torch.zeros(4, 2, 6, 5)
PLACE = torch.zeros(4, dtype=torch.int64)
PLACES = torch.zeros(4, 2, dtype=torch.int64)
TRUTHS = torch.zeros(4, 3, dtype=torch.bool)
TABLE = torch.randn(7, 4).requires_grad_()

ROWS = torch.tensor([[2, 0, 1], [-1, 1, 0]])
COLUMNS = torch.tensor([4, 0, 0, 2])


def rows_of(x: Tensor) -> Tensor:
    return torch.arange(x.shape[0])


CHOICES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "gather, one a row": (lambda x, i: x.gather(1, i.unsqueeze(1)), (X, PLACE)),
    "gather, several a row": (lambda x, i: x.gather(1, i), (X, PLACES)),
    "gather along the batch": (lambda x, i: x.gather(0, i.clamp(max=1)), (X, PLACES)),
    "gather in the middle": (
        lambda x, i: x.gather(1, i.unsqueeze(1).unsqueeze(1).expand(-1, 2, 5)), (CUBE, PLACE)
    ),
    "gather of a part": (lambda x, i: x.gather(2, i.unsqueeze(2)), (CUBE, PLACES)),
    "gather of a vector": (lambda x, i: x.sum(0).gather(0, i), (X, PLACE)),
    "rows of a table": (lambda x, i: x[i], (TABLE, PLACES)),
    "columns": (lambda x: x[:, COLUMNS], (CUBE.transpose(1, 2).contiguous(),)),
    "columns under another shape": (lambda x: x[:, ROWS], (CUBE,)),
    "the last axis": (lambda x: x[..., COLUMNS], (CUBE,)),
    "rows of the batch": (lambda x, i: x[i], (CUBE, PLACE)),
    "rows of the batch, from the end": (lambda x, i: x[-i - 1], (X, PLACE)),
    "an element of each row": (lambda x, i: x[rows_of(x), i], (X, PLACE)),
    "a vector of each row": (lambda x, i: x[rows_of(x), i], (CUBE, PLACE)),
    "elements of each row": (lambda x, i: x[rows_of(x).unsqueeze(1), i], (X, PLACES)),
    "elements of any row": (lambda x, i, j: x[i, j], (X, PLACE, PLACE)),
    "a grid of a picture": (
        lambda x: x[:, :, torch.tensor([[0], [2], [2]]), torch.tensor([1, 4])], (PICTURES,)
    ),
    "places of a picture": (
        lambda x: x[:, :, torch.tensor([0, 2, 2]), torch.tensor([1, 4, -1])], (PICTURES,)
    ),
    "places far apart": (lambda x: x[:, torch.tensor([0, 1, 1]), :, torch.tensor([1, 4, 0])], (PICTURES,)),
    "five dimensions": (lambda x: x.unsqueeze(1)[:, :, :, COLUMNS], (PICTURES,)),
    "an embedding": (lambda w, i: F.embedding(i, w, padding_idx=1), (TABLE, PLACES)),
    "chosen by a table": (lambda x, i: x[:, torch.tensor([2, 0, 1])[i[0]]], (CUBE, PLACES)),
}  # fmt: skip


@pytest.mark.some(12)
@pytest.mark.parametrize("name", CHOICES)
def test_elements_that_are_chosen_and_their_gradient(name: str) -> None:
    function, examples = CHOICES[name]
    agrees(gradients(function), *examples)


def put(accumulate: bool, *index: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Writes, or adds, elements at places of a copy."""
    return lambda x, values: torch.ops.aten.index_put(x, index, values, accumulate)


def put_in_rows(accumulate: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, i: torch.ops.aten.index_put(x, [rows_of(x), i], x[:, 0] * 2 + 1, accumulate)


def masked(value: object) -> Callable[[Tensor, Tensor], Tensor]:
    """Assigns to the elements that a mask chooses."""

    def assign(x: Tensor, mask: Tensor) -> Tensor:
        y = x.clone()
        y[mask] = value
        return y

    return assign


def every_second(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 1::2] = x[:, :, :2] + 1
    return y


PUT: dict[str, tuple[Callable[..., object], tuple[Tensor, ...]]] = {
    "scatter": (lambda x, i: x.scatter(1, i[:, :1], x[:, 1:]), (X, PLACES)),
    "scatter, the last of several": (lambda x, i: x.scatter(1, i, x[:, 1:] + 1), (X, PLACES)),
    "scatter of a number": (lambda x, i: x.scatter(1, i, 2.5), (X, PLACES)),
    "scatter into truth values": (lambda x, i: (x > 0).scatter(1, i, True), (X, PLACES)),
    "scatter into integers": (lambda x, i: torch.zeros_like(x).long().scatter(1, i, 7), (X, PLACES)),
    "scatter in the middle": (lambda x, i: x.scatter(1, i.unsqueeze(2), x[:, :2, :1] * 3), (CUBE, PLACES)),
    "scatter into few rows": (lambda x, i: x.scatter(2, i[:, :1].unsqueeze(2), 1.0), (CUBE, PLACES)),
    "scatter along the batch": (lambda x, i: x.scatter(0, i.clamp(max=1), 2.5), (X, PLACES)),
    "scatter_add": (lambda x, i: x.scatter_add(1, i, x[:, 1:] + 1), (X, PLACES)),
    "scatter_add of one": (lambda x, i: x.scatter_add(1, i[:, :1], x), (X, PLACES)),
    "scatter_add into a table": (lambda w, i: w.scatter_add(0, i, i.float() + 1), (TABLE, PLACES)),
    "scatter_add into a vector": (lambda x, i: torch.zeros(3).scatter_add(0, i, x[:, 0]), (X, PLACE)),
    "scatter_add along the batch": (lambda x, i: x.scatter_add(0, i.clamp(max=1), x), (X, PLACES)),
    "index_add": (lambda x, i: torch.zeros(3, 3).index_add(0, i, x), (X, PLACE)),
    "index_copy": (lambda x: x.index_copy(1, torch.tensor([2, 0]), x[:, :2]), (CUBE,)),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([2, 0]), 1.5), (CUBE,)),
    "rows written": (put(False, torch.tensor([1, 0, 1])), (TABLE, torch.randn(3, 4).requires_grad_())),
    "rows added": (put(True, torch.tensor([1, 0, 1])), (TABLE, torch.randn(3, 4).requires_grad_())),
    "elements written": (
        put(False, torch.tensor([1, 0, -6]), torch.tensor([0, 2, 0])),
        (TABLE, torch.randn(3).requires_grad_()),
    ),
    "columns written": (put(False, None, torch.tensor([2, 0])), (X, torch.tensor(1.5))),
    "columns added": (put(True, None, COLUMNS.clamp(max=2)), (CUBE, torch.ones(4, 1).requires_grad_())),
    "an element of each row": (put_in_rows(False), (X, PLACE)),
    "an element of each row, added": (put_in_rows(True), (X, PLACE)),
    "a mask": (lambda x, b: x.masked_fill(b, 0.5), (X, TRUTHS)),
    "a mask, assigned": (masked(0.5), (X, TRUTHS)),
    "a mask of rows": (lambda x: masked(0.5)(x, x[:, :, 0] > 0), (CUBE,)),
    "a mask of rows, and a row": (lambda x: masked(torch.arange(5.0))(x, x[:, :, 0] > 0), (CUBE,)),
    "a mask, added to": (lambda x, b: torch.ops.aten.index_put(x, [b], torch.tensor(2.0), True), (X, TRUTHS)),
    "every second column": (every_second, (CUBE,)),
    "a diagonal": (lambda x: (x.t() @ x).diagonal() + (x.t() @ x).diagonal(1).sum(), (X,)),
    "a diagonal of the batch": (lambda x: (x @ x.t()).diagonal(), (X,)),
}  # fmt: skip


@pytest.mark.some(12)
@pytest.mark.parametrize("name", PUT)
def test_elements_that_are_put_at_places(name: str) -> None:
    function, examples = PUT[name]
    agrees(function, *examples)


def test_a_value_is_put_where_it_comes_last() -> None:
    places = torch.tensor([[0, 1], [2, 0], [0, 0]])
    plan = trace(lambda x, i, v: x.scatter(1, i, v), X, PLACES, torch.zeros(4, 2))
    arguments = [torch.zeros(3, 3), places, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])]
    close(execute(role_of(plan), arguments)[0], interpret(plan.graph, arguments)[0])


def test_what_is_not_chosen_does_not_matter() -> None:
    """An infinite score beside the chosen one is not multiplied by zero."""
    plan = trace(lambda x, i: (x.gather(1, i), x[rows_of(x), i[:, 0]]), X, PLACES)
    scores = torch.tensor([[1.0, -float("inf"), 2.0], [float("nan"), 3.0, 4.0]])
    arguments = [scores, torch.tensor([[0, 2], [1, 2]])]
    for made, expected in zip(
        execute(role_of(plan), arguments), interpret(plan.graph, arguments), strict=True
    ):
        close(made, expected)


def test_how_many_a_mask_chooses_tfjs_cannot_know() -> None:
    def write_each_in_turn(x: Tensor) -> Tensor:
        y = x.clone()
        y[torch.tensor([True, False, True])] = x[:2]
        return y

    with pytest.raises(TranslationError, match="as many elements as are true"):
        role_of(trace(write_each_in_turn, X[:3], pin_batch=True))


def test_two_rows_of_the_batch_are_not_told_apart() -> None:
    with pytest.raises(TranslationError, match="Two of the axes"):
        role_of(trace(lambda x, i: (x @ x.t())[i, i], X, PLACE))
