"""`training_plan(…, dp=…)`: the gradients of DP-SGD, held against a loop over samples in eager PyTorch."""

import copy
import functools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.plan import (
    ControlVariates,
    DpSgd,
    Plan,
    RandomStream,
    StepContext,
    model_parameters,
    training_plan,
)
from fedplan.plan.tracing.training import accuracy
from tests.plan.dp_sgd_by_hand import by_hand, clipped_sum

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # eager PyTorch's, under vmap

QUIET = DpSgd(max_grad_norm=0.5, noise_multiplier=0.0, expected_batch_size=4)
NOISY = DpSgd(max_grad_norm=0.5, noise_multiplier=2.0, expected_batch_size=4)
RATE = 0.5


class LastOutput(nn.Module):
    """A recurrent layer's output at the last time step."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.outer = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.outer(self.recurrent(x)[0][:, -1])
        return made


class Words(nn.Module):
    """The mean of some words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.outer = nn.Embedding(11, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.outer(self.words(x).mean(1))
        return made


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "perceptron": (perceptron, lambda rows: 3 * torch.randn(rows, 6)),
    "convolutions": (convolutions, lambda rows: torch.randn(rows, 2, 6, 6)),
    "embedding": (Words, lambda rows: torch.randint(11, (rows, 4))),
    "recurrent": (LastOutput, lambda rows: 3 * torch.randn(rows, 7, 6)),
}


def labels(rows: int) -> Tensor:
    return torch.randint(3, (rows,))


def a_step(
    plan: Plan,
    tensors: Sequence[Tensor],
    data: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    seed: int = 1,
) -> list[Tensor]:
    mask = torch.ones(len(data)) if mask is None else mask
    return plan(data, target, torch.tensor([RATE]), *tensors, mask, random=RandomStream(seed))


@functools.cache
def a_plan(dp: DpSgd) -> Plan:
    """A perceptron's."""
    torch.manual_seed(0)
    return training_plan(
        perceptron(),
        F.cross_entropy,
        example=(torch.randn(4, 6), labels(4)),
        dp=dp,
        metrics={"accuracy": accuracy},
    )


@pytest.mark.parametrize("name", MODELS)
def test_three_steps_without_noise_are_those_of_a_loop_over_samples(name: str) -> None:
    torch.manual_seed(3)
    make, data = MODELS[name]
    model = make()
    plan = training_plan(model, F.cross_entropy, example=(data(4), labels(4)), dp=QUIET)
    tensors = model_parameters(copy.deepcopy(model))
    clipped = 0
    for rows in (5, 3, 5):
        x, y = data(rows), labels(rows)
        gradients = clipped_sum(model, x, y, 1e9)
        clipped += sum(float(g.norm()) for g in gradients) > rows * QUIET.max_grad_norm
        by_hand(model, x, y, QUIET, RATE)
        _, *tensors = a_step(plan, tensors, x, y)
        for ours, theirs in zip(tensors, model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-5)
    assert clipped  # else nothing of the clip was tried


def test_rows_that_a_mask_leaves_out_change_nothing() -> None:
    plan, tensors = a_plan(QUIET), model_parameters(perceptron())
    x, y = torch.randn(6, 6), labels(6)
    mask = torch.tensor([1.0, 0, 1, 0, 0, 1])
    whole, kept = a_step(plan, tensors, x, y, mask), a_step(plan, tensors, x[mask > 0], y[mask > 0])
    torch.testing.assert_close(whole, kept, rtol=0, atol=1e-6)


def test_a_batch_without_a_sample_moves_the_model_by_noise_alone() -> None:
    tensors = model_parameters(perceptron())
    x, y = torch.randn(3, 6), labels(3)
    loss, accurate, *quiet = a_step(a_plan(QUIET), tensors, x, y, torch.zeros(3))
    assert (float(loss), float(accurate)) == (0.0, 0.0)
    torch.testing.assert_close(quiet, tensors, rtol=0, atol=0)
    _, _, *noisy = a_step(a_plan(NOISY), tensors, x, y, torch.zeros(3))
    _, _, *others = a_step(a_plan(NOISY), tensors, 2 * x, y.flip(0), torch.zeros(3))
    torch.testing.assert_close(noisy, others, rtol=0, atol=0)
    assert all((a != b).all() for a, b in zip(noisy, tensors, strict=True))


def noise_of(seed: int) -> Tensor:
    """What a step without samples adds to the parameters, in units of its standard deviation."""
    tensors = [torch.zeros_like(tensor) for tensor in model_parameters(perceptron())]
    _, _, *moved = a_step(a_plan(NOISY), tensors, torch.zeros(1, 6), labels(1), torch.zeros(1), seed)
    unit = RATE * NOISY.noise_multiplier * NOISY.max_grad_norm / NOISY.expected_batch_size
    return torch.cat([tensor.flatten() for tensor in moved]) / unit


def test_the_noise_is_normal_with_the_deviation_that_was_asked_for() -> None:
    values = torch.cat([noise_of(seed) for seed in range(300)]).double()
    count = len(values)
    assert count > 20_000
    assert abs(values.mean()) < 4 / count**0.5
    assert abs(values.std() - 1) < 4 / (2 * count) ** 0.5
    shares = {bound: float((values.abs() > bound).double().mean()) for bound in (1.0, 2.0, 3.0)}
    for bound, share in ((1.0, 0.31731), (2.0, 0.045500), (3.0, 0.0026998)):
        assert abs(shares[bound] - share) < 4 * (share / count) ** 0.5


def test_the_same_seed_gives_the_same_noise_and_another_one_other_noise() -> None:
    assert torch.equal(noise_of(7), noise_of(7))
    assert not (noise_of(7) == noise_of(8)).any()


def test_the_noise_is_drawn_in_double_precision_from_the_workers_seed() -> None:
    drawn = [(item.kind, item.dtype, item.shape) for item in a_plan(NOISY).inputs if item.is_random]
    assert drawn == [("normal", "float64", (83,))]
    assert not any(item.is_random for item in a_plan(QUIET).inputs)


def test_a_noisy_step_is_that_of_a_loop_with_the_same_numbers() -> None:
    torch.manual_seed(2)
    model = perceptron()
    tensors = model_parameters(copy.deepcopy(model))
    x, y = torch.randn(5, 6), labels(5)
    drawn = a_plan(NOISY).draw(RandomStream(1), 5)[0] * NOISY.noise_multiplier * NOISY.max_grad_norm
    parts = drawn.split([p.numel() for p in model.parameters()])
    by_hand(
        model, x, y, NOISY, RATE, [n.reshape(p.shape) for n, p in zip(parts, model.parameters(), strict=True)]
    )
    _, _, *after = a_step(a_plan(NOISY), tensors, x, y)
    torch.testing.assert_close(after, model_parameters(model), rtol=0, atol=1e-5)


def test_frozen_parameters_are_not_in_the_norm_and_get_no_noise() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.0), nn.Linear(8, 3))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    plan = training_plan(model, F.cross_entropy, example=(torch.randn(4, 6), labels(4)), dp=NOISY)
    x, y = 5 * torch.randn(4, 6), labels(4)
    tensors = model_parameters(copy.deepcopy(model))
    noise = plan.draw(RandomStream(1), 4)[0] * NOISY.noise_multiplier * NOISY.max_grad_norm
    assert len(noise) == 27  # as many as numbers are trained
    by_hand(model, x, y, NOISY, RATE, [noise[:24].reshape(3, 8), noise[24:]])
    _, *after = a_step(plan, tensors, x, y)
    torch.testing.assert_close(after, model_parameters(model), rtol=0, atol=1e-5)
    assert [str(item.role) for item in plan.inputs if item.role] == ["frozen"] * 2 + ["trained"] * 2


def test_an_optimizer_with_state_is_given_the_noisy_gradient() -> None:
    torch.manual_seed(5)
    model = nn.Linear(6, 3)
    adam = functools.partial(torch.optim.Adam, betas=(0.8, 0.9))
    plan = training_plan(
        model, F.cross_entropy, example=(torch.randn(4, 6), labels(4)), optimizer=adam, dp=QUIET
    )
    theirs = adam(model.parameters(), lr=RATE)
    values = [tensor.clone() for tensor in model_parameters(model)]
    kept = [torch.zeros(item.shape or ()) for item in plan.inputs if item.name.startswith("optimizer")]
    for rows in (4, 2):
        x, y = torch.randn(rows, 6), labels(rows)
        for parameter, total in zip(model.parameters(), clipped_sum(model, x, y, 0.5), strict=True):
            parameter.grad = total / QUIET.expected_batch_size
        theirs.step()
        _, *after = a_step(plan, [*values, *kept], x, y)
        values, kept = after[:2], after[2:]
    torch.testing.assert_close(values, model_parameters(model), rtol=0, atol=1e-5)


def test_the_constants_travel_with_the_plan() -> None:
    plan = a_plan(NOISY)
    assert plan.dp == NOISY
    assert Plan.parse(plan.serialize()).dp == NOISY
    assert "its author says" in str(plan)


def test_a_loss_that_knows_of_its_step_and_a_term_of_fedprox_go_with_it() -> None:
    torch.manual_seed(6)
    model = nn.Linear(6, 3)

    def decayed(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
        return (
            F.cross_entropy(output, target) + step.config["decay"] * step.parameters["weight"].square().sum()
        )

    plan = training_plan(
        model, decayed, example=(torch.randn(4, 6), labels(4)), config=["decay"], proximal=0.5, dp=QUIET
    )
    x, y, mask = 3 * torch.randn(4, 6), labels(4), torch.ones(4)
    received = [torch.randn(3, 6), torch.randn(3)]
    weight, bias = model_parameters(model)
    total = [torch.zeros(3, 6), torch.zeros(3)]
    for row in range(4):
        loss = F.cross_entropy(model(x[row : row + 1]), y[row : row + 1]) + 0.1 * model.weight.square().sum()
        parts = torch.autograd.grad(loss, list(model.parameters()))
        share = min(1.0, 0.5 / float(torch.cat([g.flatten() for g in parts]).norm() + 1e-6))
        total = [a + share * b for a, b in zip(total, parts, strict=True)]
    wanted = [
        w - RATE * (g / QUIET.expected_batch_size + 0.5 * (w - start))
        for w, g, start in zip((weight, bias), total, received, strict=True)
    ]
    _, *after = plan(x, y, torch.tensor([RATE]), weight, bias, torch.tensor([0.1]), *received, mask)
    torch.testing.assert_close(after, wanted, rtol=0, atol=1e-5)


def test_control_variates_go_with_it() -> None:
    torch.manual_seed(7)
    model = nn.Linear(6, 3)
    plan = training_plan(
        ControlVariates(model), F.cross_entropy, example=(torch.randn(4, 6), labels(4)), dp=QUIET
    )
    x, y = 3 * torch.randn(4, 6), labels(4)
    tensors = {item.name: torch.zeros(item.shape or ()) for item in plan.inputs if item.role is not None}
    for name, tensor in model.named_parameters():
        tensors[f"module.{name}"] = tensor.detach().clone()
    tensors["of_all.0"] += 0.25  # of the weight
    given = {**tensors, **{f"received {name}": tensor for name, tensor in tensors.items()}}
    given |= {"data": x, "target": y, "lr": torch.tensor([RATE]), "mask": torch.ones(4)}
    given |= {"step": torch.tensor([0]), "cycle": torch.tensor([1])}
    before = model.weight.detach().clone()
    by_hand(model, x, y, QUIET, RATE)
    names = [output.name for output in plan.outputs]
    after = plan(*(given[item.name] for item in plan.inputs))[names.index("module.weight")]
    torch.testing.assert_close(after, model.weight.detach() - RATE * 0.25, rtol=0, atol=1e-5)
    assert not torch.equal(after, before)
