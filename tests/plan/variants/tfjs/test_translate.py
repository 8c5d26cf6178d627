"""What PyTorch computes, the translation into tfjs computes too."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TranslationError
from fedplan.plan import model_parameters, trace, training_plan
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute, run
from fedplan.plan.variants.tfjs.vocabulary import FUNCTIONS, METHODS
from tests.plan.families import FAMILIES
from tests.plan.tracing.test_training import optimizer_state, traced
from tests.plan.variants.tfjs.agreement import agrees, close, role_of


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_is_the_same_in_tfjs_at_any_batch_size(name: str) -> None:
    family = FAMILIES[name]
    model, plan = traced(name)
    role = role_of(plan)
    for rows in family.sizes:
        x, y = family.batch(rows)
        parameters, kept = model_parameters(model), optimizer_state(plan)
        for _ in range(2):  # the second step finds an optimizer's state filled
            arguments = [x, y, torch.tensor([0.1]), *parameters, *kept]
            expected = interpret(plan.graph, arguments)
            for made, wanted in zip(execute(role, arguments), expected, strict=True):
                assert made.shape == wanted.shape
                close(made, wanted)
            parameters, kept = expected[1 : 1 + len(parameters)], expected[1 + len(parameters) :]


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_only_functions_that_every_version_has_are_used(name: str) -> None:
    for action in role_of(traced(name)[1]).actions:
        known = FUNCTIONS if action.target_placeholder_id is None else METHODS
        assert action.command.removeprefix("tf.") in known


INF = float("inf")
X = torch.zeros(4, 3)
VOLUMES = torch.zeros(4, 2, 3, 4, 2)
NUMBERS = torch.zeros(4, 3, dtype=torch.int64)
TRUTHS = torch.zeros(4, 3, dtype=torch.bool)
W = torch.randn(3, 5).requires_grad_()

FUNCTIONS_OF_A_MATRIX: dict[str, Callable[[torch.Tensor], object]] = {
    "arithmetic": lambda x: (x + 2) * x / (x.abs() + 1) - 3 * x,
    "a number less the tensor": lambda x: 1 - x,
    "scaled sums": lambda x: torch.add(x, x * x, alpha=-0.5) + torch.sub(x, x, alpha=2.0),
    "division, rounded": lambda x: [torch.div(x, 0.3, rounding_mode=mode) for mode in ("floor", "trunc")],
    "remainder": lambda x: x % 0.7,
    "powers": lambda x: (x**2, 2**x, (x.abs() + 1) ** x),
    "roots and logarithms": lambda x: ((x.abs() + 1).sqrt(), (x.abs() + 1).rsqrt(), (x.abs() + 1).log2()),
    "waves": lambda x: (x.sin(), x.cos(), x.tanh(), x.sigmoid(), torch.atan2(x, x + 1)),
    "steps": lambda x: (x.round(), x.floor(), x.ceil(), x.trunc(), x.sign()),
    "activations": lambda x: (F.gelu(x), F.silu(x), F.elu(x), F.leaky_relu(x), F.hardtanh(x), F.softplus(x)),
    "softmax along another dimension": lambda x: (x.softmax(0), x.log_softmax(0), x.softmax(1)),
    "comparison and choice": lambda x: torch.where(x > 0, x, x * 0.1) + (x <= 0.5).float() + (x == x[0]),
    "choice with a row": lambda x: torch.where(x > 0, x[0], x),
    "logic": lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), (x > 0) ^ (x > 1), ~(x > 0)),
    "clamping": lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0), x.clamp(max=0.1)),
    "sums and means": lambda x: (x.sum(), x.sum(0), x.mean(1, keepdim=True), x.mean(), x.sum((0, 1))),
    "variance": lambda x: (x.var(1), x.var(0), x.std(1, correction=0), x.var()),
    "extremes": lambda x: (x.max(), x.amin(1), x.max(1).values, x.argmax(1), x.argmin(1, True), x.argmax()),
    "products": lambda x: (x.prod(1), x.cumsum(1)),
    "all and any": lambda x: ((x > -9).all(), (x > 0).any(1), (x > 0).all(1)),
    "norms": lambda x: (x.norm(), torch.linalg.vector_norm(x, dim=1)),
    "parts": lambda x: (x[:, 1], x[:, 1:], x[:, ::2], x[0], x[:, -1], x[:2]),
    "joined": lambda x: (torch.cat([x, x * 2], 1), torch.cat([x, x], 0), torch.stack([x, -x], 1)),
    "split": lambda x: (*x.split([1, 2], 1), *x.unbind(1)),
    "turned": lambda x: (x.t(), x.flip(1), x.unsqueeze(1), x.reshape(-1), x.unsqueeze(0).squeeze(0)),
    "repeated": lambda x: (x.repeat(2, 1), x.unsqueeze(1).expand(-1, 4, -1), x[0].expand(x.shape)),
    "padded": lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 0, 1, 0), value=2.5)),
    "made of sizes": lambda x: (x.new_zeros(x.shape), x.new_full((x.shape[0], 2), 1.5), torch.ones_like(x)),
    "made of numbers": lambda x: (torch.arange(3) + x, torch.eye(3) + x[0], torch.full((2,), 7)),
    "divided by the batch size": lambda x: x.sum() / x.shape[0] + x.numel(),
    "rows from the end": lambda x: (x[-1], x[-2], x[-2:], x[-2:, 1:], x.roll(1, 0)),
    "padded and cut": lambda x: (F.pad(x, (-1, 2)), F.pad(x, (1, -1)), F.pad(x, (0, -2, 1, -1))),
    "padded with infinity": lambda x: (F.pad(x, (1, 0), value=-INF), F.pad(x, (0, 2), value=INF)),
    "repeated by the batch": lambda x: (
        x[0].repeat(x.shape[0]), x[0].repeat(x.shape[0], 2), x[:1].repeat(x.shape[0], 1)
    ),
    "counted": lambda x: (torch.arange(x.shape[0]), torch.arange(2, 2 * x.shape[0] + 2, 2) * x[:, 0]),
    "counted twice over": lambda x: torch.arange(3 * x.shape[0]) + x.reshape(-1),
    "a matrix of the batch": lambda x: (
        torch.eye(x.shape[0]) + x @ x.t(), (x @ x.t()).masked_fill(torch.eye(x.shape[0]).bool(), -9.0)
    ),
    "pairs of the batch": lambda x: (
        (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(2) + x.new_ones(x.shape[0], x.shape[0])
    ),
    "halves of two batches": lambda x: (
        torch.cat([x, x * 2])[: x.shape[0]], torch.cat([x, x * 2])[x.shape[0] :]
    ),
    "axes of one beside two of the batch": lambda x: ((x @ x.t()).unsqueeze(1) * 2).squeeze(1),
    "the remainder with the sign of the number": lambda x: (torch.fmod(x, 0.3), torch.fmod(x, x[0] + 2)),
    "rows chosen": lambda x: x.index_select(1, torch.tensor([2, 0])),
}  # fmt: skip


def written(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1] = 5.0
    y[:, 2:] = x[:, :1]
    return y


def test_a_tensor_that_is_written_into() -> None:
    agrees(written, X)


FUNCTIONS_OF_A_VOLUME: dict[str, Callable[[torch.Tensor], object]] = {
    "padded": lambda v: (F.pad(v, (1, 0, 0, 2, 1, 1)), F.pad(v, (0, 0, 0, 0, -1, 1), value=2.5)),
    "parts": lambda v: (v[:, :, ::2], v[:, 1:, 1], v[-1], v[..., -1], v[:, :, :, 1::2]),
    "turned": lambda v: (v.flip(2), v.flip(1, 4), v.permute(4, 0, 2, 1, 3)),
    "summed up": lambda v: (v.cumsum(0), v[0].cumsum(1), v[0, 0].cumsum(0), v[0, 0].cumsum(2)),
    "chosen": lambda v: (torch.where(v > 0, v, -v), v.index_select(2, torch.tensor([2, 0]))),
    "repeated": lambda v: (v[0].repeat(2, 1, 1, 2), v[:, :, :1].expand(-1, -1, 3, -1, -1)),
}
"""Of five dimensions, which is more than WebGL has programs for."""


@pytest.mark.parametrize("name", FUNCTIONS_OF_A_VOLUME)
def test_a_function_of_a_volume(name: str) -> None:
    agrees(FUNCTIONS_OF_A_VOLUME[name], VOLUMES)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FUNCTIONS_OF_A_MATRIX)
def test_a_function_of_a_matrix(name: str) -> None:
    agrees(FUNCTIONS_OF_A_MATRIX[name], X)


@pytest.mark.parametrize(
    "function",
    [
        lambda n: (n + 1, n * 2, n - 3, 1 - n, n // 2, n % 2, n.sum(), n.max()),
        lambda n: (n.float() / 3, n / 2, n == 1, n > 0, n != n[0], n.float().mean()),
        lambda n: (n.clamp(1, 2), n.abs(), -n, n.to(torch.int32) * n, torch.where(n > 1, n, 0)),
        lambda n: (n[:, 0] == 1).long(),
        lambda n: (torch.fmod(n - 1, 2), F.pad(n, (1, -1)), torch.eye(n.shape[0], dtype=torch.int64)),
    ],
)
def test_integers_stay_integers(function: Callable[[torch.Tensor], object]) -> None:
    agrees(function, NUMBERS)


def test_truth_values_count_as_numbers_only_when_converted() -> None:
    agrees(lambda b: (b.float() * 2, b.long().sum(), ~b, b & b[0], b.sum(1)), TRUTHS)


def test_matrix_products_and_their_transposes() -> None:
    agrees(
        lambda x, w: (x @ w, w.t() @ x.t(), x.t() @ x, torch.addmm(x[0, 0].expand(5), x, w, beta=2, alpha=3)),
        X,
        W,
    )
    agrees(lambda x: torch.bmm(x, x.transpose(1, 2)), torch.zeros(4, 2, 3))


def test_an_embedding_and_its_gradient() -> None:
    def step(words: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        table = table.detach().requires_grad_()
        F.embedding(words, table, padding_idx=1).square().sum().backward()
        assert table.grad is not None
        return table.grad

    agrees(step, NUMBERS, torch.randn(3, 4).requires_grad_())


@pytest.mark.some(4)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"ignore_index": 1},
        {"weight": torch.tensor([0.5, 1.0, 2.0])},
        {"label_smoothing": 0.2},
    ],
    ids=str,
)
def test_cross_entropy_and_its_gradient(options: dict[str, object]) -> None:
    def step(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(x, target, **options)  # type: ignore[arg-type]
        return loss, *torch.autograd.grad(loss, [x])

    agrees(step, X, torch.zeros(4, dtype=torch.int64))


def test_a_plans_own_tensors_become_what_syft_js_can_load() -> None:
    numbers, truths, exact = torch.arange(3), torch.tensor([True, False, True]), torch.rand(3).double()
    plan = trace(lambda x: x * numbers + truths.float() + (x * exact).float(), X)
    role = role_of(plan)
    assert role.state is not None
    assert {t.torch_tensor.contents_data.dtype for t in role.state.tensors} <= {"float32", "int32"}  # type: ignore[union-attr]
    x = torch.rand(2, 3)
    close(execute(role, [x])[0], plan(x)[0])


def test_values_have_the_same_ids_in_both_variants() -> None:
    _, plan = traced("MLP")
    x, y = FAMILIES["MLP"].batch(5)
    arguments = [x, y, torch.tensor([0.1]), *model_parameters(traced("MLP")[0])]
    scope = run(role_of(plan), arguments)
    shared = []

    def observe(_: object, number: int, made: object) -> None:
        if number in scope and isinstance(made, torch.Tensor):
            close(scope[number], made)
            shared.append(number)

    interpret(plan.graph, arguments, observe)
    assert len(shared) > len(plan.graph.nodes) / 2


def test_an_output_never_shares_memory_with_an_input() -> None:
    """A client frees its old parameters after each step."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    plan = training_plan(model, F.cross_entropy, example=(X, torch.zeros(4, dtype=torch.int64)))
    role = role_of(plan)
    ids = [id.id_int for id in role.output_placeholder_ids]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {id.id_int for id in role.input_placeholder_ids}


REFUSED: dict[str, tuple[Callable[[torch.Tensor], object], torch.Tensor, str]] = {
    "bits": (lambda n: n & 1, NUMBERS, "no operations on bits"),
    "a long sort": (lambda x: x.sort().values, torch.zeros(2, 1025), "compare each pair"),
    "two sizes at once": (
        lambda x: (x @ x.t()).unsqueeze(2).expand(-1, -1, 2).reshape(x.shape[0], -1), X, "can leave out one"
    ),
    "a picture of the batch": (
        lambda x: F.conv1d(x.t().unsqueeze(0), torch.ones(1, 3, 1)), X, "size of its pictures depends"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_tfjs_has_no_word_for_is_refused(name: str) -> None:
    function, example, why = REFUSED[name]
    with pytest.raises(TranslationError, match=why) as refusal:
        role_of(trace(function, example))
    assert refusal.value.op.startswith("aten.")
    assert refusal.value.variant == "tfjs"


def test_a_refusal_names_the_authors_line() -> None:
    def masks(n: torch.Tensor) -> torch.Tensor:
        return n & 1

    with pytest.raises(TranslationError, match=r"aten\.bitwise_and\.\w+' \(at test_translate\.py:\d+\)"):
        role_of(trace(masks, NUMBERS))


def test_a_batch_size_that_is_pinned_is_no_obstacle() -> None:
    plan = trace(lambda x: x[-1] + x.new_zeros(x.shape[0], 3), X, pin_batch=True)
    x = torch.rand(4, 3)
    close(execute(role_of(plan), [x])[0], plan(x)[0])


def test_the_learning_rate_may_come_as_a_plain_number() -> None:
    """What apps do: syft.js hands a number on, and tfjs makes a tensor of it."""
    _, plan = traced("MLP")
    x, y = FAMILIES["MLP"].batch(5)
    parameters = model_parameters(traced("MLP")[0])
    role = role_of(plan)
    with_tensor = execute(role, [x, y, torch.tensor([0.1]), *parameters])
    with_number = execute(role, [x, y, torch.tensor(0.1), *parameters])
    for made, expected in zip(with_number, with_tensor, strict=True):
        close(made, expected)


def test_a_masked_class_is_no_obstacle() -> None:
    def step(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        masked = torch.where(torch.tensor([True, True, False]), x, -float("inf"))
        return F.cross_entropy(masked, target.clamp(max=1))

    agrees(step, X, torch.zeros(4, dtype=torch.int64))


def test_the_first_samples_are_those_there_are() -> None:
    agrees(lambda x: x[:2], X, rows=(1, 2, 5))


def test_inputs_with_rows_of_their_own_are_told_apart() -> None:
    plan = trace(lambda x, y: (torch.ones(y.shape[0], 3) * 2, x.new_zeros(x.shape[0])), X, torch.zeros(5, 2))
    arguments = [torch.zeros(3, 3), torch.zeros(7, 2)]
    for made, expected in zip(
        execute(role_of(plan), arguments), interpret(plan.graph, arguments), strict=True
    ):
        close(made, expected)


def test_numbers_without_dimensions_have_extremes_too() -> None:
    agrees(lambda x: (x.sum().max(0).values, x.sum().argmax()), X)


def test_products_of_integers_are_integers() -> None:
    plan = trace(
        lambda n: torch.cat([n @ n.t()[:, :3], n]), torch.zeros(3, 3, dtype=torch.int64), pin_batch=True
    )
    n = torch.randint(0, 5, (3, 3))
    assert torch.equal(execute(role_of(plan), [n])[0].long(), plan(n)[0])
