"""What rounding does is no fault of a variant, and hides none."""

import copy
import dataclasses
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanFormatError, VariantError
from fedplan.plan import Plan, check_variants, make_variant, model_parameters, trace, training_plan
from fedplan.plan.variants.make import with_variants
from fedplan.plan.variants.rounding import Point
from fedplan.plan.variants.samples import Samples
from fedplan.wire import schema

BOTH = ["torchscript", "tfjs"]

SGD = functools.partial(torch.optim.SGD, lr=0.1)
ADAM = functools.partial(torch.optim.Adam, lr=0.01)


def conforming(model: nn.Module, data: Tensor, target: Tensor, optimizer: object = SGD) -> Plan:
    """A training step in all variants, compared with a model of some parameters."""
    plan = training_plan(model, F.cross_entropy, example=(data, target), optimizer=optimizer)  # type: ignore[arg-type]
    return with_variants(plan, model_parameters(model), BOTH)


def classes(rows: int) -> Tensor:
    return torch.arange(rows) % 3


class Attention(nn.Module):
    """The gradient of its key's bias is zero: a softmax does not see what is added to all scores."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.some(2)
class TestWhatIsZeroButForRounding:
    @pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
    def test_the_gradient_of_a_keys_bias(self, optimizer: object) -> None:
        torch.manual_seed(0)
        conforming(Attention(), torch.randn(4, 5, 8), classes(4), optimizer)

    @pytest.mark.some(2)
    @pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
    def test_the_gradient_of_a_bias_before_a_batch_norm(self, optimizer: object) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), nn.Linear(4 * 36, 3),
        )  # fmt: skip
        conforming(model, torch.randn(4, 1, 8, 8), classes(4), optimizer)

    def test_the_other_gradients_of_the_same_parameter_are_still_compared(self) -> None:
        torch.manual_seed(0)
        plan = conforming(Attention(), torch.randn(4, 5, 8), classes(4), ADAM)
        of_query_key_value = "attend.in_proj_bias"
        index = next(i for i, o in enumerate(plan.outputs) if o.name == of_query_key_value)
        with pytest.raises(VariantError, match=rf"'{of_query_key_value}'"):
            check_variants(untrained(plan, index), variants=["tfjs"])


def in_tfjs(plan: Plan, role: schema.Role) -> Plan:
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, tfjs=role))


def role_of(plan: Plan) -> schema.Role:
    role = copy.deepcopy(plan.variants.tfjs)
    assert role is not None
    return role


def untrained(plan: Plan, output: int) -> Plan:
    """The Plan with a tfjs variant that returns a parameter as it came."""
    role, wanted = role_of(plan), plan.outputs[output].name
    place = next(i for i, item in enumerate(plan.inputs) if item.name == wanted)
    role.output_placeholder_ids[output] = role.input_placeholder_ids[place]
    return in_tfjs(plan, role)


class TestABatchNorm:
    """Over a flat layer it is not defined for one sample: PyTorch's layer refuses it."""

    def plan(self) -> Plan:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        return conforming(model, torch.randn(8, 6), classes(8))

    def test_has_its_variants(self) -> None:
        assert max(self.plan().variants.errors.values()) < 1e-5

    def test_is_defined_for_more(self) -> None:
        plan = self.plan()
        source = Samples(plan.graph, plan.inputs)
        assert [Point(plan, source.draw(rows)).defined for rows in (2, 5)] == [True, True]
        with pytest.raises(PlanExecutionError, match="more than one"):
            source.draw(1)

    def test_in_eval_mode_is_defined_for_one(self) -> None:
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
        plan = training_plan(model, F.cross_entropy, example=(torch.randn(8, 6), classes(8)))
        assert Point(plan, Samples(plan.graph, plan.inputs).draw(1)).defined

    def test_that_is_wrong_is_found(self) -> None:
        plan = self.plan()
        for output in (1, 3, 4, 5, 6, 7, 8):  # all but the bias before it, and the running statistics
            with pytest.raises(VariantError):
                check_variants(untrained(plan, output), variants=["tfjs"])


class TestACorner:
    """Where a number is just at a threshold, its rounding decides."""

    def steps(self, factor: float) -> Plan:
        """A step function whose tfjs variant multiplies by another factor."""
        plan = make_variant(trace(lambda x: (x * 3.0 > 1.0).float(), torch.zeros(4, 3)), "tfjs")
        role = role_of(plan)
        role.actions[0].args[1] = schema.Arg(arg_float=factor)
        return in_tfjs(plan, role)

    def at_the_corner(self) -> Tensor:
        """A third, which times three is one, and times a little more is more than that."""
        return torch.full((4, 3), 1 / 3)

    def test_a_difference_there_is_none_beside_it(self) -> None:
        (found,) = check_variants(self.steps(3.000001), inputs=[self.at_the_corner()])
        assert found.greatest == 0.0

    def test_a_wrong_factor_is_found(self) -> None:
        with pytest.raises(VariantError, match=r"output 0' by 1, where 0\.0001 is allowed"):
            check_variants(self.steps(3.1), inputs=[self.at_the_corner() * 0.99])

    def test_what_is_wrong_on_one_side_is_found(self) -> None:
        plan = make_variant(trace(lambda x: x.relu(), torch.zeros(4, 3)), "tfjs")
        role = role_of(plan)
        role.actions[0].command = "tf.abs"
        with pytest.raises(VariantError):
            check_variants(in_tfjs(plan, role))


class TestCoarseNumbers:
    """Browsers compute in float32 what the op list computes in fewer bits."""

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_may_differ_by_their_own_steps(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
        plan = conforming(model, torch.randn(8, 6).to(dtype), classes(8))
        for output in (1, 2, 3, 4):
            with pytest.raises(VariantError):
                check_variants(untrained(plan, output), model_parameters(model), variants=["tfjs"])

    def test_in_between_count_too(self) -> None:
        torch.manual_seed(0)
        linear = nn.Linear(6, 3)

        def loss(output: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(output.to(torch.bfloat16).float(), target)

        plan = training_plan(linear, loss, example=(torch.randn(8, 6), classes(8)))
        with_variants(plan, model_parameters(linear), BOTH)


class TestNumbersThatThePlanCanTake:
    def test_a_length_is_not_zero(self) -> None:
        def last(x: Tensor, length: Tensor) -> Tensor:
            return x.gather(1, (length - 1).unsqueeze(1))

        plan = with_variants(trace(last, torch.randn(4, 6), torch.tensor([1, 6, 2, 3])), variants=BOTH)
        drawn = Samples(plan.graph, plan.inputs).draw(50)[1]
        assert (int(drawn.min()), int(drawn.max())) == (1, 3)

    def test_each_input_has_a_range_of_its_own(self) -> None:
        words, marks = nn.Embedding(200, 4), nn.Embedding(3, 4)

        def embed(a: Tensor, b: Tensor) -> Tensor:
            return words(a) + marks(b)

        plan = trace(embed, torch.zeros(4, 5, dtype=torch.int64), torch.zeros(4, 5, dtype=torch.int64))
        a, b = Samples(plan.graph, plan.inputs).draw(20)
        assert int(a.max()) > 50
        assert int(b.max()) == 2


class TestTheAuthorsExample:
    def far_away(self) -> Plan:
        """A table that begins at 5000."""
        places = torch.tensor([5000, 5002, 5001, 5002])
        return trace(lambda x: F.embedding(x - 5000, torch.eye(3)), places)

    def test_shows_which_numbers_are_valid(self) -> None:
        assert with_variants(self.far_away()).variants.names() == BOTH
        with pytest.raises(PlanExecutionError, match="embedding"):
            with_variants(dataclasses.replace(self.far_away(), example=None), variants=BOTH)

    def test_is_tried_first(self) -> None:
        plan = self.far_away()
        shown = Samples(plan.graph, plan.inputs, None, plan.example).example()
        assert shown is not None
        assert plan.example is not None
        assert torch.equal(shown[0], plan.example[0])

    def test_can_be_given(self) -> None:
        plan = dataclasses.replace(self.far_away(), example=None)
        example = [torch.tensor([5001, 5000, 5002])]
        whole = with_variants(plan, variants=BOTH, example=example)
        assert [result.variant for result in check_variants(whole, example=example)] == BOTH

    def test_must_fit(self) -> None:
        with pytest.raises(PlanFormatError, match="the example has 2 tensors, and the Plan takes 1: input 0"):
            with_variants(self.far_away(), variants=BOTH, example=[torch.zeros(1), torch.zeros(1)])

    def test_of_zeros_shows_only_shapes(self) -> None:
        plan = trace(lambda x: F.embedding(x, torch.eye(3)), torch.zeros(4, dtype=torch.int64))
        assert Samples(plan.graph, plan.inputs, None, plan.example).example() is None
        assert int(Samples(plan.graph, plan.inputs, None, plan.example).draw(20)[0].max()) == 2

    def test_of_a_training_step_is_its_data_and_target(self) -> None:
        data, target = torch.randn(8, 6), classes(8)
        plan = training_plan(nn.Linear(6, 3), F.cross_entropy, example=(data, target))
        assert plan.example is not None
        assert [torch.equal(a, b) for a, b in zip(plan.example, (data, target), strict=True)] == [True, True]

    def test_does_not_travel(self) -> None:
        assert Plan.parse(self.far_away().serialize()).example is None
