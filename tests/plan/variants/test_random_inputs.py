"""Old clients have no random inputs: their variants draw them, with what their runtimes have."""

import dataclasses
import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import PlanFormatError, PlanInputError, TranslationError, VariantError
from fedplan.plan import (
    Plan,
    PlanInputSpec,
    RandomStream,
    check_variants,
    make_variant,
    model_parameters,
    trace,
    training_plan,
    with_variants,
)
from fedplan.plan.variants.random_inputs import draw
from fedplan.plan.variants.tfjs.interpreter import execute
from fedplan.plan.variants.torchscript import run
from tests.long import some
from tests.plan.tracing.test_random_inputs import MODELS, RECURRENT, Module, after, batch, noisy, pictures
from tests.plan.variants.tfjs.agreement import role_of

BOTH = ["torchscript", "tfjs"]


def latent() -> nn.Module:
    """A variational bottleneck: mean and deviation, and a number drawn from them."""

    def forward(self: Module, x: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.into(x).chunk(2, 1)
        return self.out(mean + torch.randn_like(deviation) * deviation.exp())

    return Module(forward, into=nn.Linear(6, 8), out=nn.Linear(4, 3))


MASKS: dict[str, Callable[[], nn.Module]] = {
    **{name: make for name, make in MODELS.items() if "noise" not in name},
    **RECURRENT,
    "dropout of channels in series": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)), nn.Dropout1d(0.4), nn.Flatten(), nn.Linear(6, 3)
    ),
    "dropout of channels in volumes": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 1, 1)), nn.Dropout3d(0.4), nn.Flatten(), nn.Linear(6, 3)
    ),
    "dropout, twice": lambda: nn.Sequential(
        nn.Dropout(0.2), nn.Linear(6, 6), nn.Dropout(0.2), nn.Linear(6, 3)
    ),
    "dropout of pictures": lambda: pictures(nn.Dropout(0.2)),
    "a mask of one probability": lambda: noisy(lambda h: h * torch.bernoulli(torch.full_like(h, 0.7), 0.7)),
    "a comparison": lambda: noisy(lambda h: torch.where(torch.rand_like(h) < 0.25, 0.0, h)),
    "a comparison that is always so": lambda: noisy(lambda h: torch.where(torch.rand_like(h) < 1, h, 0.0)),
    "stochastic depth": lambda: noisy(lambda h: h * (torch.rand(h.shape[0], 1) > 0.5) / 0.5),
}
NOISE: dict[str, Callable[[], nn.Module]] = {
    **{name: make for name, make in MODELS.items() if "noise" in name},
    "leaky slopes by chance": lambda: after(nn.RReLU()),
    "leaky slopes by chance, in place": MODELS["leaky slopes by chance, in place"],
    "Gumbel softmax": MODELS["Gumbel softmax"],
    "steps drawn at random": MODELS["steps drawn at random"],
    "masks of truth values": MODELS["masks of truth values"],
    "a variational bottleneck": latent,
}
MASKS = {name: make for name, make in MASKS.items() if name not in NOISE}


def step(model: nn.Module, **options: bool) -> Plan:
    return training_plan(model, F.cross_entropy, example=batch(7), **options)


def commands(plan: Plan) -> list[str]:
    return [action.command for action in role_of(plan).actions]


class TestEveryClient:
    @pytest.mark.some(12)
    @pytest.mark.parametrize("name", MASKS)
    def test_trains_with_masks_at_any_batch_size(self, name: str) -> None:
        torch.manual_seed(0)
        model = MASKS[name]()
        whole = with_variants(step(model), model_parameters(model), BOTH)
        assert max(whole.variants.errors.values()) <= 1e-5
        read = Plan.parse(whole.serialize())  # what travels conforms: thresholds are float32 there
        check_variants(read, model_parameters(model))

    @pytest.mark.some(24)
    @pytest.mark.parametrize("name", [*MASKS, *NOISE])
    def test_trains_with_any_chance_at_a_pinned_batch_size(self, name: str) -> None:
        torch.manual_seed(0)
        model = (MASKS | NOISE)[name]()
        whole = with_variants(step(model, pin_batch=True), model_parameters(model), BOTH)
        assert max(whole.variants.errors.values()) <= 1e-5

    @pytest.mark.some(6)
    @pytest.mark.parametrize("name", NOISE)
    def test_of_noise_for_each_sample_phones_get_a_plan_and_browsers_a_reason(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        torch.manual_seed(0)
        model = NOISE[name]()
        with caplog.at_level(logging.WARNING):
            whole = with_variants(step(model), model_parameters(model))
        assert whole.variants.names() == ["torchscript"]
        assert "hosted without its tfjs variant" in caplog.text
        assert "pin_batch=True" in caplog.text

    def test_that_evaluates_draws_nothing(self) -> None:
        for name in some(MODELS, 6):
            if "noise" in name or name in NOISE:  # these draw in evaluation, too
                continue
            plan = step(MODELS[name]().eval())
            assert not any(item.is_random for item in plan.inputs)
            assert not {"tf.dropout", "tf.randomUniform", "tf.randomNormal"} & set(commands(plan))


class TestPhones:
    def test_take_the_other_inputs_and_draw_anew_in_each_run(self) -> None:
        model = MODELS["dropout"]()
        data = make_variant(step(model), "torchscript").variants.torchscript
        x, y = batch(5)
        given = [x, y, torch.tensor([0.1]), *model_parameters(model)]
        first, second = run(data, given)[0], run(data, given)[0]
        assert not torch.equal(first, second)

    def test_a_seed_gives_the_same_numbers_and_leaves_pytorch_s_generator(self) -> None:
        plan = make_variant(trace(lambda x: x + torch.randn_like(x), torch.ones(4, 3)), "torchscript")
        x, before = torch.zeros(2, 3), torch.get_rng_state()
        first, second, other = (run(plan.variants.torchscript, [x], seed)[0] for seed in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
        assert torch.equal(first, draw(plan.graph, plan.inputs, 2, seed=1)[1])

    def test_have_numbers_of_the_dtype(self) -> None:
        plan = trace(lambda x: torch.rand(x.shape[0], dtype=torch.float64) + x, torch.ones(4))
        made = run(make_variant(plan, "torchscript").variants.torchscript, [torch.zeros(1000)])[0]
        assert made.dtype == torch.float64
        assert bool((made * 2**24 % 1 != 0).any())  # finer than those of float32

    def test_have_a_mean_and_a_deviation(self) -> None:
        plan = trace(lambda x: (x + torch.rand_like(x), x + torch.randn_like(x)), torch.ones(4, 3))
        data = make_variant(plan, "torchscript").variants.torchscript
        uniform, normal = run(data, [torch.zeros(40000, 3)], 0)  # a deviation is known to 1 / sqrt(240000)
        assert (uniform.mean() - 0.5).abs() < 5 * 12**-0.5 / 120000**0.5
        assert (normal.std() - 1).abs() < 5 / 240000**0.5
        assert bool((uniform >= 0).all() and (uniform < 1).all())


class TestBrowsers:
    def test_draw_a_mask_once_and_use_it_forward_and_backward(self) -> None:
        made = commands(step(MODELS["dropout"]()))
        assert made.count("tf.dropout") == 1
        assert made.count("tf.greaterEqual") == 1

    def test_draw_another_mask_for_each_layer(self) -> None:
        assert commands(step(MASKS["dropout, twice"]())).count("tf.dropout") == 2

    def test_draw_one_mask_for_a_layer_that_is_computed_again(self) -> None:
        assert commands(step(MODELS["a layer that is computed again"]())).count("tf.dropout") == 1

    def test_take_the_other_inputs(self) -> None:
        plan = step(MODELS["dropout"]())
        assert len(role_of(plan).input_placeholder_ids) == len(plan.inputs) - 1

    @pytest.mark.some(8)
    @pytest.mark.parametrize("limit", [0.0, 0.25, 0.3, 0.5, 1 - 2.0**-24])
    @pytest.mark.parametrize("compare", [torch.ge, torch.gt, torch.le, torch.lt])
    def test_compare_as_the_op_list_does_to_the_last_bit(
        self, compare: Callable[[torch.Tensor, float], torch.Tensor], limit: float
    ) -> None:
        plan = trace(lambda x: compare(torch.rand_like(x), limit), torch.ones(4))
        near = torch.tensor(limit)  # in float32
        drawn = torch.stack([near - 2.0**-24, near, near + 2.0**-24, torch.rand(())]).clamp(0, 1 - 2.0**-24)
        (made,) = execute(role_of(plan), [torch.ones(4)], {plan.graph.inputs[1]: drawn})
        assert torch.equal(made, compare(drawn, limit))

    def test_that_compare_one_draw_with_two_numbers_are_refused(self) -> None:
        def three(x: torch.Tensor) -> torch.Tensor:
            u = torch.rand_like(x)
            return torch.where(u < 0.2, -x, torch.where(u < 0.5, 0.0, x))

        plan = trace(three, torch.ones(4, 3))
        with pytest.raises(
            TranslationError, match=r"test_random_inputs\.py.*one number only.*pin_batch=True"
        ):
            make_variant(plan, "tfjs")
        with_variants(trace(three, torch.ones(4, 3), pin_batch=True), variants=BOTH)

    def test_that_shall_return_the_numbers_are_refused(self) -> None:
        plan = trace(lambda x: (torch.rand_like(x), x), torch.ones(4, 3))
        with pytest.raises(TranslationError, match="'random 0' cannot be said"):
            make_variant(plan, "tfjs")
        with_variants(
            trace(lambda x: (torch.rand_like(x), x), torch.ones(4, 3), pin_batch=True), variants=BOTH
        )

    def test_have_as_many_rows_as_the_first_of_several_inputs(self) -> None:
        def apart(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.rand(x.shape[0], 2) < 0.5, w * 2

        plan = trace(apart, torch.ones(4, 3), torch.ones(4, 3))
        with_variants(plan, variants=BOTH)


class TestAVariantIsRefused:
    """One that draws otherwise than the op list is told it gets."""

    def broken(self, command: str, index: int, number: float) -> Plan:
        plan = make_variant(step(MODELS["dropout"]()), "tfjs")
        assert plan.variants.tfjs is not None
        (action,) = (a for a in plan.variants.tfjs.actions if a.command == command)
        action.args[index].arg_float = number
        return plan

    def test_with_another_probability(self) -> None:
        with pytest.raises(VariantError, match=r"differs.*first operation that differs.*ge\.Scalar"):
            check_variants(self.broken("tf.dropout", 1, 0.5))

    def test_with_a_threshold_at_which_all_are_kept(self) -> None:
        with pytest.raises(VariantError, match="differs"):
            check_variants(self.broken("tf.greaterEqual", 1, -1.0))

    def test_that_draws_without_the_plan_s_knowing(self) -> None:
        plan = make_variant(step(MODELS["dropout"]()), "tfjs")
        assert plan.variants.tfjs is not None
        (action,) = (a for a in plan.variants.tfjs.actions if a.command == "tf.dropout")
        action.return_placeholder_ids[0].id.id_int = 10_000  # type: ignore[union-attr]
        with pytest.raises(VariantError, match="draws random numbers, and none are given"):
            check_variants(plan)

    def test_of_an_unknown_distribution(self) -> None:
        plan = trace(lambda x: x + torch.rand(3), torch.ones(4, 3))
        *rest, chance = plan.inputs
        spec = PlanInputSpec(PlanInputSpec.TYPE_RANDOM, "cauchy", 0)
        other = dataclasses.replace(plan, inputs=(*rest, dataclasses.replace(chance, spec=spec)))
        for variant in BOTH:
            with pytest.raises(PlanFormatError, match=r"'cauchy'; there are uniform, normal"):
                make_variant(other, variant)


def test_arguments_that_are_given_leave_out_random_ones() -> None:
    model = MODELS["dropout"]()
    plan = with_variants(step(model))
    given = [*batch(5), torch.tensor([0.1]), *model_parameters(model)]
    assert [result.variant for result in check_variants(plan, inputs=given)] == BOTH
    with pytest.raises(PlanInputError, match="takes 7 arguments besides random ones, not 8"):
        check_variants(plan, inputs=[*given, *plan.draw(RandomStream(0), 5)])
