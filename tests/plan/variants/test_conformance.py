"""Variants are compared with the op list; one that differs is refused, with the first operation that does."""

import concurrent.futures
import copy
import dataclasses
import io
import zipfile
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanFormatError, TranslationError, VariantError
from fedplan.plan import Plan, PlanInputSpec, check_variants, model_parameters, trace, with_variants
from fedplan.plan.variants.conformance import TOLERANCE, difference
from fedplan.plan.variants.samples import Samples
from fedplan.wire import schema
from tests.plan.families import FAMILIES
from tests.plan.fixtures import FOLDER, needs_fixtures, state
from tests.plan.tracing.test_training import traced


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_variant_of_every_family_computes_the_same(name: str) -> None:
    model, plan = traced(name)
    whole = with_variants(plan, model_parameters(model))
    assert whole.variants.names() == list(whole.variants.errors) == ["torchscript", "tfjs"]
    assert max(whole.variants.errors.values()) <= 1e-5


def mlp() -> Plan:
    return with_variants(traced("MLP")[1])


def test_variants_and_their_errors_travel_with_the_plan() -> None:
    plan = mlp()
    read = Plan.parse(plan.serialize())
    assert read.variants.names() == ["torchscript", "tfjs"]
    assert read.variants.errors == pytest.approx(plan.variants.errors, rel=1e-2)
    assert read.serialize() == plan.serialize()
    assert [result.variant for result in check_variants(read)] == ["torchscript", "tfjs"]


def test_the_error_of_each_output_is_told() -> None:
    plan = mlp()
    for result in check_variants(plan):
        assert len(result.errors) == len(plan.outputs)
        assert result.greatest == max(result.errors)


def in_tfjs(change: Callable[[schema.Role], None]) -> Plan:
    """The MLP with its tfjs variant broken by hand."""
    plan = mlp()
    role = copy.deepcopy(plan.variants.tfjs)
    assert role is not None
    change(role)
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, tfjs=role))


def action_of(role: schema.Role, command: str, index: int = 0) -> schema.ComputationAction:
    return [action for action in role.actions if action.command == command][index]


def swap_an_axis(role: schema.Role) -> None:
    action_of(role, "tf.sum").args[1] = schema.Arg(arg_list=schema.ArgList(args=[schema.Arg(arg_int=0)]))


def lose_the_bias(role: schema.Role) -> None:
    """x + b becomes x + 0."""
    action_of(role, "tf.add").args[1] = schema.Arg(arg_float=0.0)


def take_a_wrong_constant(role: schema.Role) -> None:
    action_of(role, "tf.fill").args[1] = schema.Arg(arg_float=2.0)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (swap_an_axis, "_log_softmax.default"),
        (lose_the_bias, "addmm.default"),
        (take_a_wrong_constant, "ones_like.default"),
    ],
)
def test_a_broken_tfjs_variant_is_refused_with_the_first_operation_that_differs(
    change: Callable[[schema.Role], None], first: str
) -> None:
    with pytest.raises(
        VariantError, match=rf"tfjs.*differs.*first operation that differs is '%\d+ = aten\.{first}"
    ):
        check_variants(in_tfjs(change))


def test_a_variant_that_does_not_run_is_refused_with_the_action() -> None:
    def rename(role: schema.Role) -> None:
        action_of(role, "tf.relu").command = "tf.rely"

    with pytest.raises(
        VariantError, match=r"tfjs variant of the Plan 'training_plan' fails: .*'rely' is none"
    ):
        check_variants(in_tfjs(rename))


def in_torchscript(before: str, after: str) -> Plan:
    """The MLP with the source of its TorchScript variant broken by hand."""
    plan = mlp()
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plan.variants.torchscript)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(".py"):
                assert before.encode() in data
                data = data.replace(before.encode(), after.encode(), 1)
            new.writestr(entry.filename, data)
    variants = dataclasses.replace(plan.variants, torchscript=made.getvalue())
    return dataclasses.replace(plan, variants=variants)


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        ("torch.sum(v17, [0], True)", "torch.sum(v17, [1], True)", ""),
        ("v8 = torch.addmm(v4, v0, v7)", "v8 = torch.addmm(torch.mul(v4, 0), v0, v7)", "addmm"),
        (
            "v29 = torch.addcmul(v3, v25, v28, value=-1)",
            "v29 = torch.addcmul(v3, v25, v28, value=-2)",
            "addcmul",
        ),
    ],
    ids=["a swapped axis", "a lost bias", "a wrong constant"],
)
def test_a_broken_torchscript_variant_is_refused_too(before: str, after: str, first: str) -> None:
    with pytest.raises(VariantError, match=rf"torchscript.*{first}"):
        check_variants(in_torchscript(before, after))


def test_a_variant_that_does_not_train_a_layer_is_refused_however_small_the_step() -> None:
    plan = in_tfjs(lambda role: None)
    role = plan.variants.tfjs
    assert role is not None
    trained = {
        o.spec.index: place for place, o in enumerate(plan.outputs) if o.spec and o.spec.type == "modelParam"
    }
    given = {
        i.spec.index: place for place, i in enumerate(plan.inputs) if i.spec and i.spec.type == "modelParam"
    }
    role.output_placeholder_ids[trained[0]] = role.input_placeholder_ids[given[0]]
    inputs = Samples(plan.graph, plan.inputs).draw(5)
    inputs[2] = torch.tensor([1e-4])  # the learning rate: the parameter itself hardly changes
    with pytest.raises(VariantError, match=r"'0\.weight' in what the step changes of it"):
        check_variants(plan, inputs=inputs)


def test_variants_made_at_the_same_time_do_not_disturb_each_other() -> None:
    plans = [trace(lambda x, k=k: (x * k).tanh(), torch.zeros(4, 3)) for k in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = list(pool.map(with_variants, plans))
    assert [plan.variants.names() for plan in made] == [["torchscript", "tfjs"]] * 4
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.roll(1, 1),
        lambda x: x.int() & 1,
    ],
    ids=["a roll", "bits"],
)
def test_a_plan_that_cannot_be_had_in_a_variant_is_hosted_without_it(
    function: Callable[[torch.Tensor], object],
) -> None:
    plan = with_variants(trace(function, torch.zeros(4, 3)))
    assert set(plan.variants.errors) == set(plan.variants.names())


def test_none_of_the_variants_is_kept_that_is_not_asked_for() -> None:
    assert with_variants(mlp(), variants=()).variants.names() == []
    assert with_variants(mlp(), variants=["tfjs"]).variants.names() == ["tfjs"]


def test_what_cannot_be_said_is_left_out_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    plan = with_variants(trace(lambda x: x.int() & 1, torch.zeros(4, 3)))
    assert plan.variants.names() == ["torchscript"]
    assert "without its tfjs variant: the operation 'aten.bitwise_and" in caplog.text


def test_what_is_asked_for_and_cannot_be_said_is_an_error() -> None:
    plan = trace(lambda x: x.int() & 1, torch.zeros(4, 3))
    with pytest.raises(TranslationError, match="tfjs"):
        with_variants(plan, variants=["tfjs"])


def test_only_what_is_asked_for_is_made() -> None:
    plan = trace(lambda x: x * 2, torch.zeros(4, 3))
    assert with_variants(plan, variants=()).variants.names() == []
    assert with_variants(plan, variants=["tfjs"]).variants.names() == ["tfjs"]


@needs_fixtures
def test_variants_that_pysyft_made_are_kept_and_can_be_checked_on_given_inputs() -> None:
    data = (FOLDER / "small_mlp_sgd" / "as_sent_by_client.plan.pb").read_bytes()
    plan = with_variants(Plan.parse(data))
    assert plan.variants.names() == ["torchscript", "tfjs"]
    assert plan.variants.errors == {}  # it does not say what its inputs are
    results = check_variants(plan, inputs=state(FOLDER / "small_mlp_sgd" / "input.state.pb"))
    assert [result.variant for result in results] == ["torchscript", "tfjs"]
    assert all(result.greatest < 1e-5 for result in results)
    with pytest.raises(PlanFormatError, match="give the inputs to try"):
        check_variants(plan)


class TestDifferences:
    def test_are_relative_to_large_numbers_and_absolute_below_one(self) -> None:
        assert difference(torch.tensor([0.0, 0.5]), torch.tensor([0.01, 0.5])) == pytest.approx(0.01)
        assert difference(torch.tensor([0.0, 100.0]), torch.tensor([1.0, 100.0])) == pytest.approx(0.01)

    def test_of_shapes_are_infinite(self) -> None:
        assert difference(torch.zeros(2), torch.zeros(2, 1)) == float("inf")

    def test_are_none_where_both_are_no_numbers_or_infinite(self) -> None:
        odd = torch.tensor([float("nan"), float("inf")])
        assert difference(odd, odd) == 0.0
        assert difference(odd, torch.tensor([0.0, float("inf")])) == float("inf")
        assert difference(torch.zeros(0), torch.zeros(0)) == 0.0

    def test_of_integers_and_truth_values_count(self) -> None:
        assert difference(torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)) == 0.0
        assert difference(torch.tensor([True]), torch.tensor([False])) == 1.0 > TOLERANCE

    def test_of_kinds_are_infinite(self) -> None:
        assert difference(torch.tensor([1, 2]), torch.tensor([1.0, 2.0])) == float("inf")


class TestSamples:
    def test_are_the_same_each_time(self) -> None:
        plan = traced("MLP")[1]
        for first, second in zip(*(Samples(plan.graph, plan.inputs).draw(3) for _ in range(2)), strict=True):
            assert torch.equal(first, second)

    def test_hold_integers_that_the_plan_can_take(self) -> None:
        plan = traced("embedding, attention, layer norm")[1]
        words, target, *_ = Samples(plan.graph, plan.inputs).draw(3)
        assert words.max() < 10
        assert target.max() < 3
        assert words.max() > 0

    def test_are_positive_where_that_is_needed(self) -> None:
        plan = trace(lambda x: F.softplus(x).log() + x.sqrt(), torch.zeros(4, 3))
        assert bool((Samples(plan.graph, plan.inputs).draw(3)[0] > 0).all())

    def test_are_the_models_own_parameters_where_given(self) -> None:
        model, plan = traced("MLP")
        parameters = model_parameters(model)
        drawn = Samples(plan.graph, plan.inputs, parameters).draw(3)
        assert all(a is not None and torch.equal(a, b) for a, b in zip(drawn[3:], parameters, strict=True))

    def test_have_as_many_rows_as_the_plan_needs(self) -> None:
        def hardest(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(x, y, reduction="none").topk(4).values.mean()

        plan = trace(hardest, torch.zeros(8, 3), torch.zeros(8, dtype=torch.int64))
        source = Samples(plan.graph, plan.inputs)
        assert source.rows == 5
        assert source.draw(source.rows)[1].unique().tolist() == [0, 1, 2]
        assert with_variants(plan).variants.names() == ["torchscript", "tfjs"]

    def test_have_as_many_rows_as_it_takes_to_be_finite(self) -> None:
        plan = trace(lambda x: x.square().sum() / (x.shape[0] - 3), torch.randn(8, 3))
        assert Samples(plan.graph, plan.inputs).rows == 5
        assert with_variants(plan).variants.names() == ["torchscript", "tfjs"]

    def test_need_not_be_finite_where_no_numbers_are(self) -> None:
        plan = trace(lambda x: x / 0 * 0, torch.zeros(4, 3))
        assert Samples(plan.graph, plan.inputs).draw(3)[0].shape == (3, 3)

    def test_cannot_be_found_for_a_plan_that_runs_with_nothing(self) -> None:
        plan = trace(lambda x: F.embedding(x - 5000, torch.zeros(3, 2)), torch.zeros(4, dtype=torch.int64))
        with pytest.raises(PlanExecutionError, match="embedding"):
            Samples(plan.graph, plan.inputs).draw(3)


def test_a_plan_that_takes_a_value_beside_its_data_has_variants() -> None:
    kinds = PlanInputSpec
    plan = trace(
        lambda x, factor: x * factor,
        torch.randn(4, 3),
        torch.tensor([2.0, 3.0, 4.0]),
        inputs=[kinds(kinds.TYPE_DATA), kinds(kinds.TYPE_VALUE, value=torch.tensor([2.0, 3.0, 4.0]))],
    )
    assert plan.example is not None
    assert len(plan.example) == 2
    assert set(with_variants(plan).variants.names()) == {"torchscript", "tfjs"}
