"""Chance in a training step becomes random inputs of its Plan: the same numbers give the same as eager."""

import copy
import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fedplan.errors import PlanInputError, TraceError, UnsupportedOpError
from fedplan.plan import Plan, PlanInputSpec, RandomStream, model_parameters, trace, training_plan
from fedplan.plan.run.interpreter import interpret
from tests.plan.same_numbers import SameNumbers

STREAM = RandomStream(7)


class Module(nn.Module):
    """Layers and a forward function."""

    def __init__(self, forward: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def after(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), layer, nn.Linear(8, 3))


def pictures(layer: nn.Module) -> nn.Module:
    picture = nn.Unflatten(1, (1, 2, 3))
    return nn.Sequential(picture, nn.Conv2d(1, 4, 1), layer, nn.Flatten(), nn.Linear(24, 3))


def sequence(layer: nn.Module, *, batch_first: bool) -> nn.Module:
    """(rows, 6) as three steps of two numbers each."""

    def forward(self: Module, x: torch.Tensor) -> torch.Tensor:
        steps = self.into(x.reshape(-1, 3, 2))
        made = self.layer(steps if batch_first else steps.transpose(0, 1))
        return self.out(made.mean(1 if batch_first else 0))

    return Module(forward, into=nn.Linear(2, 8), layer=layer, out=nn.Linear(8, 3))


def attention(*, batch_first: bool) -> nn.Module:
    class Attention(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x, x, x, need_weights=False)[0]

    return sequence(Attention(8, 2, dropout=0.5, batch_first=batch_first), batch_first=batch_first)


def noisy(noise: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    return Module(lambda self, x: self.out(noise(self.into(x))), into=nn.Linear(6, 8), out=nn.Linear(8, 3))


def recomputed() -> nn.Module:
    body = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Tanh())
    return Module(
        lambda self, x: self.out(checkpoint(self.body, self.into(x), use_reentrant=False)),
        into=nn.Linear(6, 8), body=body, out=nn.Linear(8, 3),
    )  # fmt: skip


encoder = nn.TransformerEncoderLayer

MODELS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: after(nn.Dropout(0.3)),
    "dropout in place": lambda: after(nn.Dropout(0.3, inplace=True)),
    "dropout of everything": lambda: after(nn.Dropout(1.0)),
    "dropout of nothing": lambda: after(nn.Dropout(0.0)),
    "alpha dropout": lambda: after(nn.AlphaDropout(0.3)),
    "dropout of channels": lambda: pictures(nn.Dropout2d(0.5)),
    "alpha dropout of channels": lambda: pictures(nn.FeatureAlphaDropout(0.5)),
    "leaky slopes by chance": lambda: after(nn.RReLU()),
    "leaky slopes by chance, in place": lambda: after(nn.RReLU(inplace=True)),
    "attention": lambda: attention(batch_first=True),
    "attention, batch second": lambda: attention(batch_first=False),
    "transformer layer": lambda: sequence(encoder(8, 2, 16, 0.5, batch_first=True), batch_first=True),
    "transformer layer, batch second": lambda: sequence(encoder(8, 2, 16, 0.5), batch_first=False),
    "noise like a tensor": lambda: noisy(lambda h: h + torch.randn_like(h)),
    "noise of a size": lambda: noisy(lambda h: h * torch.rand(h.shape[0], 1) + torch.randn(8)),
    "noise of a distribution": lambda: noisy(lambda h: torch.distributions.Normal(h, 1.0, False).rsample()),
    "Gumbel softmax": lambda: noisy(lambda h: F.gumbel_softmax(h, tau=0.7)),
    "steps drawn at random": lambda: noisy(lambda h: h * torch.randint(1, 9, (h.shape[0], 1))),
    "masks of truth values": lambda: noisy(lambda h: h * torch.bernoulli(torch.sigmoid(h.detach()))),
    "a layer that is computed again": recomputed,
}


def recurrent(layers: int, *, batch_first: bool) -> nn.Module:
    class Recurrent(nn.LSTM):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[0]

    layer = Recurrent(8, 8, layers, dropout=0.5, batch_first=batch_first)
    return sequence(layer, batch_first=batch_first)


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "dropout between two recurrent layers": lambda: recurrent(2, batch_first=True),
    "dropout between three, batch second": lambda: recurrent(3, batch_first=False),
}
"""Layers in whose kernels PyTorch drops out by itself."""


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 6), torch.randint(3, (rows,))


@pytest.mark.some(12)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_with_chance_equals_eager_with_the_same_numbers(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    plan = Plan.parse(training_plan(model, F.cross_entropy, example=batch(7)).serialize())
    drawn = [item for item in plan.inputs if item.is_random]
    assert [item.spec.index for item in drawn if item.spec] == list(range(len(drawn)))
    eager = copy.deepcopy(model)
    optimizer = torch.optim.SGD(eager.parameters(), lr=0.1)
    params = model_parameters(model)
    for step, rows in enumerate((7, 5, 11)):
        x, y = batch(rows)
        optimizer.zero_grad()
        numbers = plan.draw(STREAM, rows, step=step)
        with SameNumbers(numbers) as same:
            loss = F.cross_entropy(eager(x), y)
            loss.backward()
        assert same.used == len(numbers)
        optimizer.step()
        made = plan(x, y, 0.1, *params, random=STREAM, step=step)
        torch.testing.assert_close(made[0], loss.detach())
        params = made[1:]
        for ours, theirs in zip(params, model_parameters(eager), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_each_draw_has_an_input_of_its_own_with_the_batch_first() -> None:
    plan = training_plan(MODELS["transformer layer, batch second"](), F.cross_entropy, example=batch(7))
    drawn = [(item.shape, item.dtype, item.spec) for item in plan.inputs if item.is_random]
    i = PlanInputSpec
    shapes = [(None, 2, 3, 3), (None, 3, 8), (None, 3, 16), (None, 3, 8)]
    assert drawn == [
        (shape, "float32", i(i.TYPE_RANDOM, "uniform", number)) for number, shape in enumerate(shapes)
    ]


def test_evaluation_has_no_random_inputs() -> None:
    plan = training_plan(MODELS["transformer layer"]().eval(), F.cross_entropy, example=batch(7))
    assert not [item for item in plan.inputs if item.is_random]


def test_a_seed_gives_the_same_bits_in_interpreter_executor_and_another_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS["dropout"]()
    plan = training_plan(model, F.cross_entropy, example=batch(7))
    x, y = batch(5)
    arguments = [x, y, torch.tensor([0.1]), *model_parameters(model)]
    expected = plan(*arguments, random=STREAM, cycle=2, step=3)
    again = plan(*arguments, random=STREAM, cycle=2, step=3)  # the executor: it was compiled by the first run
    plainly = interpret(plan.graph, [*arguments, *plan.draw(STREAM, 5, cycle=2, step=3)])
    (tmp_path / "plan.pb").write_bytes(plan.serialize())
    torch.save((arguments, expected), tmp_path / "run.pt")
    script = f"""
        import torch
        from fedplan.plan import Plan, RandomStream
        plan = Plan.parse(open({str(tmp_path / "plan.pb")!r}, "rb").read())
        arguments, expected = torch.load({str(tmp_path / "run.pt")!r})
        made = plan(*arguments, random=RandomStream(7), cycle=2, step=3)
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    for other in (again, plainly):
        assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))
    for other in ({"cycle": 1, "step": 3}, {"cycle": 2, "step": 4}):
        assert not torch.equal(plan(*arguments, random=STREAM, **other)[0], expected[0])


def test_numbers_may_be_given_instead_of_drawn() -> None:
    model = MODELS["dropout"]()
    plan = training_plan(model, F.cross_entropy, example=batch(7))
    x, y = batch(5)
    kept = plan(x, y, 0.1, *model_parameters(model), torch.ones(5, 8) * 0.999)[0]
    scaled = copy.deepcopy(model)
    scaled[1] = Module(lambda self, h: h / 0.7)
    torch.testing.assert_close(kept, F.cross_entropy(scaled(x), y).detach())


def test_random_inputs_are_filled_wherever_they_stand() -> None:
    plan = trace(lambda x, w: x + w + torch.rand(x.shape[0], 3), torch.randn(4, 3), torch.randn(3), name="p")
    expected = plan(torch.zeros(5, 3), torch.ones(3), random=STREAM)[0]
    x, w, chance = zip(plan.inputs, plan.graph.inputs, strict=True)
    inputs, numbers = zip(chance, w, x, strict=True)
    graph = dataclasses.replace(plan.graph, inputs=numbers)
    turned = dataclasses.replace(plan, inputs=inputs, graph=graph)
    assert torch.equal(turned(torch.ones(3), torch.zeros(5, 3), random=STREAM)[0], expected)
    with pytest.raises(PlanInputError, match=r"takes 2 arguments \(input 1, input 0\), not 1"):
        turned(torch.zeros(5, 3), random=STREAM)
    with pytest.raises(PlanInputError, match=r"'input 0' has the shape \(\), the Plan needs"):
        plan(3, torch.ones(3), random=STREAM)


def test_a_call_without_numbers_says_how_to_draw_them() -> None:
    model = MODELS["dropout"]()
    plan = training_plan(model, F.cross_entropy, example=batch(7))
    with pytest.raises(PlanInputError, match=r"random=RandomStream\(\)"):
        plan(*batch(5), 0.1, *model_parameters(model))


def test_the_listing_shows_random_inputs() -> None:
    plan = training_plan(MODELS["dropout"](), F.cross_entropy, example=batch(7))
    assert "random 0: uniform float32 (any, 8)" in str(plan)


class TestRefused:
    def test_numbers_whose_count_is_no_multiple_of_the_batch(self) -> None:
        def pairs(x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand(x.shape[0], x.shape[0]).sum()  # the line

        with pytest.raises(TraceError, match=r"are drawn \(at test_random_inputs\.py:\d+\).*pin_batch"):
            trace(pairs, torch.randn(4, 6))
        assert len(trace(pairs, torch.randn(4, 6), pin_batch=True).inputs) == 2

    def test_a_seed_that_the_step_sets(self) -> None:
        def seeded(x: torch.Tensor) -> torch.Tensor:
            torch.manual_seed(3)
            return x + torch.rand_like(x)

        with pytest.raises(TraceError, match="sets the state of PyTorch's random generator"):
            trace(seeded, torch.randn(4, 6))

    def test_a_generator_of_its_own(self) -> None:
        chance = torch.Generator().manual_seed(0)
        with pytest.raises(TraceError, match="a generator of its own"):
            trace(lambda x: x + torch.rand(6, generator=chance), torch.randn(4, 6))

    def test_a_draw_that_has_no_rule(self) -> None:
        with pytest.raises(UnsupportedOpError, match=r"multinomial.*torch\.rand"):
            trace(lambda x: torch.multinomial(x.softmax(1), 2), torch.randn(4, 6))


def test_tracing_leaves_the_state_of_torch_s_generator() -> None:
    model, example = MODELS["dropout"](), batch(4)
    before = torch.get_rng_state()
    training_plan(model, F.cross_entropy, example=example)
    assert torch.equal(torch.get_rng_state(), before)
