"""Random numbers of tfjs: what it draws is what Plans need, in both versions, in Node and in Chromium."""

import asyncio
import dataclasses
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.plan import Plan, RandomStream, model_parameters, split_variants, trace, training_plan
from fedplan.plan.variants.make import make_variant
from fedplan.plan.variants.tfjs.vocabulary.chance import BELOW_ONE, DRAWS
from tests.long import LONG, only_in_the_long_form, some
from tests.plan.variants.test_random_inputs import MASKS, NOISE, batch

from .actions import Action, Array
from .tfjs import OLDEST, PROGRAMS, TfjsError, run_actions, run_plans
from .trainings import Training, with_dropout
from .workers import take_part

COUNT = 40_000
ONES = np.ones((COUNT // 4, 4), np.float32)

SIGMAS = 5
"""How far a mean may be from what it should be, in its own standard deviations: once in 1.7 million it is."""

ACTIONS = {
    "dropout": Action("tf.dropout", (ONES, 0.3)),
    "randomUniform": Action("tf.randomUniform", ([COUNT // 4, 4], 0, BELOW_ONE)),
    "randomNormal": Action("tf.randomNormal", ([COUNT // 4, 4],)),
}

runtimes = pytest.mark.parametrize("runtime", PROGRAMS)


def near(made: float, expected: float, deviation: float, count: int) -> bool:
    """Whether the mean of independent numbers is as near to what is expected as chance has it."""
    return abs(made - expected) < SIGMAS * deviation / count**0.5


@pytest.fixture(scope="module", params=PROGRAMS)
def drawn(request: pytest.FixtureRequest) -> dict[str, Array]:
    """What each function draws, as float64."""
    made = run_actions([*ACTIONS.values(), *ACTIONS.values()], request.param)
    assert not [result for result in made if isinstance(result, TfjsError)]
    first, again = made[: len(ACTIONS)], made[len(ACTIONS) :]
    assert not any(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    return {name: np.float64(numbers) for name, numbers in zip(ACTIONS, first, strict=True)}


def test_every_function_that_draws_is_here() -> None:
    assert set(ACTIONS) == set(DRAWS)


def test_dropout_makes_zeros_of_so_many_ones_and_scales_the_others(drawn: dict[str, Array]) -> None:
    made = drawn["dropout"]
    np.testing.assert_allclose(np.unique(made), [0, 1 / 0.7], rtol=1e-6)
    assert near((made == 0).mean(), 0.3, (0.3 * 0.7) ** 0.5, COUNT)
    both = ((made[:, 0] == 0) & (made[:, 1] == 0)).mean()  # elements do not depend on one another
    assert near(both, 0.09, (0.09 * 0.91) ** 0.5, COUNT // 4)


def test_uniform_numbers_are_from_zero_to_one(drawn: dict[str, Array]) -> None:
    made = drawn["randomUniform"]
    assert 0 <= made.min() < made.max() < 1
    assert near(made.mean(), 1 / 2, 12**-0.5, COUNT)
    assert near((made**2).mean(), 1 / 3, (4 / 45) ** 0.5, COUNT)


def test_normal_numbers_have_the_mean_0_and_the_variance_1(drawn: dict[str, Array]) -> None:
    made = drawn["randomNormal"]
    assert near(made.mean(), 0, 1, COUNT)
    assert near((made**2).mean(), 1, 2**0.5, COUNT)
    assert near((made**4).mean(), 3, 96**0.5, COUNT)


def role_of(plan: Plan) -> bytes:
    return split_variants(make_variant(plan, "tfjs").serialize())["tfjs"]


def in_tfjs(plan: Plan, arguments: Sequence[torch.Tensor], runtime: str) -> list[Array]:
    (made,) = run_plans([(role_of(plan), [value.numpy() for value in arguments])], runtime)
    assert not isinstance(made, TfjsError), made
    return [np.asarray(output) for output in made]


@runtimes
@pytest.mark.parametrize("pin_batch", [False, True])
def test_a_layer_drops_the_same_elements_forward_and_backward(runtime: str, pin_batch: bool) -> None:
    def step(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        w = w.detach().requires_grad_()
        h = x * w  # (rows, 8)
        once, twice = F.dropout(h, 0.3), F.dropout(h, 0.3)
        gradients = [torch.autograd.grad(made.sum(), h, retain_graph=True)[0] for made in (once, twice)]
        return [once.detach(), twice.detach(), *gradients]

    rows = 3000
    example = torch.ones(rows if pin_batch else 4, 8), torch.ones(8)
    plan = trace(step, *example, pin_batch=pin_batch)
    once, twice, of_once, of_twice = in_tfjs(plan, [torch.ones(rows, 8), torch.ones(8)], runtime)
    np.testing.assert_array_equal(once, of_once)  # of ones, the layer's result is its own slope
    np.testing.assert_array_equal(twice, of_twice)
    assert near((once == 0).mean(), 0.3, (0.3 * 0.7) ** 0.5, once.size)
    both = ((once == 0) & (twice == 0)).mean()  # each layer draws for itself
    assert near(both, 0.09, (0.09 * 0.91) ** 0.5, once.size)


STEPS: dict[str, Callable[[], nn.Module]] = {**MASKS, **{f"{name}, pinned": NOISE[name] for name in NOISE}}
ROWS = 1000


def figures(outputs: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss of a step, and how much it changes the model."""
    changes = [(a - b).square().sum() for a, b in zip(outputs[1:], before, strict=True)]
    return torch.stack([outputs[0], torch.stack(changes).sum().sqrt()])


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        role: its tfjs variant.
        given: its arguments but the random ones.
        drawn: its figures in Python, for 30 seeds.
    """

    role: bytes
    given: list[torch.Tensor]
    drawn: torch.Tensor


@pytest.fixture(scope="module")
def steps() -> dict[str, Step]:
    """One of each model."""
    made = {}
    for name in some(STEPS, 4):
        torch.manual_seed(0)
        model = STEPS[name]()
        plan = training_plan(model, F.cross_entropy, example=batch(ROWS), pin_batch="pinned" in name)
        given = [*batch(ROWS), torch.tensor([0.1]), *model_parameters(model)]
        drawn = [figures(plan(*given, random=RandomStream(seed)), given[3:]) for seed in range(30)]
        made[name] = Step(role_of(plan), given, torch.stack(drawn))
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", [name for name in PROGRAMS if LONG or "Chromium" not in name])
def test_a_step_has_the_loss_and_the_gradient_that_it_has_in_python(
    steps: dict[str, Step], runtime: str
) -> None:
    """As far as chance lets one see: with 30 seeds in Python the deviation of a run in tfjs is well known."""
    results = run_plans([(s.role, [value.numpy() for value in s.given]) for s in steps.values()], runtime)
    far = {}
    for (name, step), outputs in zip(steps.items(), results, strict=True):
        assert not isinstance(outputs, TfjsError), (name, outputs)
        made = figures([torch.tensor(output) for output in outputs], step.given[3:])
        expected, deviation = step.drawn.mean(0), step.drawn.std(0)
        allowed = 1e-4 + (SIGMAS + 1) * deviation * (1 + 1 / 30) ** 0.5
        if not bool(((made - expected).abs() < allowed).all()):
            far[name] = made, expected, allowed
    assert far == {}


CYCLES, BATCHES = 2, 20
IN_PYTHON, IN_TFJS = 30, 3


def in_python(training: Training) -> list[float]:
    """The mean loss of trainings with different seeds."""
    batches = [batch for cycle in range(CYCLES) for batch in training.batches(cycle, BATCHES)]
    return [statistics.mean(training.train(training.params, batches, s)[0]) for s in range(IN_PYTHON)]


@pytest.mark.parametrize("training", ["dropout"], indirect=True)
@pytest.mark.parametrize(
    ("runtime", "core"),
    [
        ("Node", OLDEST),
        ("Chromium", None),
        pytest.param("Node", None, marks=only_in_the_long_form),
        pytest.param("Chromium", OLDEST, marks=only_in_the_long_form),
    ],
)
async def test_a_model_with_dropout_learns_as_it_does_in_python(server, peer, host, training, runtime, core):
    """The mean loss of some trainings is that of as many in Python, as far as their noise lets one see.

    With 30 trainings in Python and 3 in tfjs, of the same deviation, the difference of the two means has the
    deviation times √(1/30 + 1/3). Another probability of dropout is seen: 0.3 is further away than that.
    """
    cycles = [training.batches(seed, BATCHES) for seed in range(CYCLES)]

    async def train() -> float:
        name = await host(max_diffs=1, num_cycles=CYCLES)
        outcome = await take_part(runtime, f"ws://{server}", name, training, cycles, core=core)
        assert outcome.errors == []
        assert len(outcome.losses) == CYCLES * BATCHES
        return statistics.mean(outcome.losses)

    losses = await asyncio.gather(*(train() for _ in range(IN_TFJS)))
    expected = in_python(training)
    allowed = SIGMAS * statistics.stdev(expected) * (1 / IN_PYTHON + 1 / IN_TFJS) ** 0.5
    assert len(set(losses)) == IN_TFJS  # each has its own numbers
    assert abs(statistics.mean(losses) - statistics.mean(expected)) < allowed
    assert abs(statistics.mean(in_python(with_dropout(0.3))) - statistics.mean(expected)) > allowed
    words = f"{statistics.mean(losses):.4f} in {runtime}, {statistics.mean(expected):.4f} in Python"
    print(f"{words}, ± {allowed:.4f} for chance")
