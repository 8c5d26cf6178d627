"""One traced step equals the same step written by hand in PyTorch."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, accuracy, model_parameters, training_plan
from fedplan.plan.ops import DTYPES, OPS
from fedplan.plan.roles import check_roles
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.signature import Role
from tests.plan.families import FAMILIES, Batch, Family, cnn, mlp, vectors

STEPS = 3


def plan_of(family: Family, model: nn.Module) -> Plan:
    return training_plan(
        model,
        family.loss,
        example=family.batch(5),
        optimizer=family.optimizer,
        clip_norm=family.clip_norm,
        clip_value=family.clip_value,
    )


def by_hand(family: Family, model: nn.Module, batches: list[Batch]) -> tuple[list[float], list[torch.Tensor]]:
    model = copy.deepcopy(model)
    optimizer = family.optimizer(model.parameters())
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = family.loss(model(x), y)
        loss.backward()
        if family.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), family.clip_norm)
        if family.clip_value is not None:
            nn.utils.clip_grad_value_(model.parameters(), family.clip_value)
        optimizer.step()
        losses.append(loss.item())
    return losses, model_parameters(model)


def optimizer_state(plan: Plan) -> list[torch.Tensor]:
    kept = [i for i in plan.inputs if i.spec and i.spec.type == PlanInputSpec.TYPE_OPTIMIZER_STATE]
    return [torch.zeros([e or 0 for e in i.shape or ()], dtype=DTYPES[i.dtype or ""]) for i in kept]


@functools.cache
def traced(name: str) -> tuple[nn.Module, Plan]:
    torch.manual_seed(0)
    model = FAMILIES[name].model()
    return model, plan_of(FAMILIES[name], model)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_traced_step_equals_the_step_by_hand_at_any_batch_size(name: str) -> None:
    family = FAMILIES[name]
    model, made = traced(name)
    plan = Plan.parse(made.serialize())  # as a worker gets it
    (lr,) = {torch.tensor([g["lr"]]) for g in family.optimizer(model.parameters()).param_groups}
    for rows in family.sizes:
        batches = [family.batch(rows) for _ in range(STEPS)]
        losses, trained = by_hand(family, model, batches)
        parameters, kept = model_parameters(model), optimizer_state(plan)
        for (x, y), expected in zip(batches, losses, strict=True):
            arguments = [x, y, lr, *parameters, *kept]
            outputs = plan(*arguments)
            for fast, slow in zip(outputs, interpret(plan.graph, arguments), strict=True):
                torch.testing.assert_close(fast, slow, rtol=0, atol=0)
            loss, parameters, kept = outputs[0], outputs[1 : 1 + len(trained)], outputs[1 + len(trained) :]
            assert loss.item() == pytest.approx(expected, abs=1e-5)
        for mine, theirs in zip(parameters, trained, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_traced_plan_holds_rows_of_core_aten_only(name: str) -> None:
    _, plan = traced(name)
    assert all(OPS[node.op].traced for node in plan.graph.nodes)


def test_batch_norm_in_train_mode_updates_its_running_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))
    plan = training_plan(model, F.cross_entropy, example=vectors(4))
    x, y = vectors(8)
    before = model_parameters(model)
    after = plan(x, y, 0.1, *before)[1:]
    assert [t.shape for t in after] == [t.shape for t in before]
    torch.testing.assert_close(after[-2], 0.9 * before[-2] + 0.1 * x.mean(dim=0))
    torch.testing.assert_close(after[-1], 0.9 * before[-1] + 0.1 * x.var(dim=0))


def test_batch_norm_in_eval_mode_keeps_its_running_statistics() -> None:
    model = cnn().eval()
    plan = training_plan(model, F.cross_entropy, example=FAMILIES["CNN with batch norm"].batch(4))
    x, y = FAMILIES["CNN with batch norm"].batch(8)
    before = model_parameters(model)
    after = plan(x, y, 0.1, *before)[1:]
    assert torch.equal(after[-1], before[-1])
    assert torch.equal(after[-2], before[-2])


def test_inputs_and_outputs_say_what_they_are() -> None:
    plan = training_plan(mlp(), F.cross_entropy, example=vectors(4), metrics={"accuracy": accuracy})
    i, o = PlanInputSpec, PlanOutputSpec
    assert plan.input_specs == [
        i(i.TYPE_DATA),
        i(i.TYPE_TARGET),
        i(i.TYPE_CLIENT_CONFIG_PARAM, "lr"),
        *(i(i.TYPE_MODEL_PARAM, index=k) for k in range(4)),
    ]
    assert plan.output_specs == [
        o(o.TYPE_LOSS),
        o(o.TYPE_METRIC, "accuracy"),
        *(o(o.TYPE_MODEL_PARAM, index=k) for k in range(4)),
    ]
    assert Plan.parse(plan.serialize()).input_specs == plan.input_specs
    assert Plan.parse(plan.serialize()).output_specs == plan.output_specs


def test_a_batch_size_can_be_an_input_that_nothing_reads() -> None:
    i = PlanInputSpec
    model = mlp()
    plan, without = (
        training_plan(model, F.cross_entropy, example=vectors(4), batch_size_input=given)
        for given in (True, False)
    )
    assert plan.input_specs is not None
    assert [s.type for s in plan.input_specs[:4]] == [
        i.TYPE_DATA,
        i.TYPE_TARGET,
        i.TYPE_BATCH_SIZE,
        i.TYPE_CLIENT_CONFIG_PARAM,
    ]
    assert (plan.inputs[2].shape, plan.inputs[2].dtype) == ((1,), "float32")
    again = Plan.parse(plan.serialize())
    x, y = vectors(6)
    for size in (6.0, 1.0):
        outputs = again(x, y, size, 0.1, *model_parameters(model))
        for ours, theirs in zip(outputs, without(x, y, 0.1, *model_parameters(model)), strict=True):
            assert torch.equal(ours, theirs)


def test_the_model_and_the_arguments_are_left_as_they_were() -> None:
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    plan = training_plan(model, F.cross_entropy, example=vectors(4))
    arguments = [*vectors(4), torch.tensor([0.1]), *model_parameters(model)]
    copies = [a.clone() for a in arguments]
    plan(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_are_hosted_and_not_trained() -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    plan = training_plan(model, F.cross_entropy, example=vectors(4))
    before = model_parameters(model)
    after = plan(*vectors(4), 0.1, *before)[1:]
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_whole_numbers_and_truth_values_that_nobody_writes_to_are_frozen() -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("order", torch.tensor([2, 0, 1]))
            self.register_buffer("kept", torch.tensor([True, False, True]))
            self.register_buffer("small", torch.tensor([1, 2], dtype=torch.int8))
            self.register_buffer("seen", torch.tensor(0))
            self.register_buffer("behind", torch.tensor([0]))
            self.register_buffer("narrowed", torch.tensor([1], dtype=torch.int32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            self.behind.data.add_(1)
            self.narrowed = self.narrowed.to(torch.int8).to(torch.int32)
            return self.layer(x)[:, self.order] * self.kept

    model = Tables()
    plan = training_plan(model, F.cross_entropy, example=(torch.zeros(4, 6), torch.zeros(4).long()))
    roles = {item.name: item.role for item in plan.inputs if item.role is not None}
    assert {name for name, role in roles.items() if role is Role.FROZEN} == {"order", "kept", "small"}
    assert {n for n, r in roles.items() if r is Role.COUNTER} == {"seen", "behind", "narrowed"}
    check_roles(plan)
    _, *after = plan(torch.zeros(4, 6), torch.zeros(4).long(), 0.1, *model_parameters(model))
    state = dict(zip(roles, after, strict=True))
    assert state["order"].tolist() == [2, 0, 1]
    assert state["kept"].tolist() == [1, 0, 1]
    assert (int(state["seen"]), int(state["behind"])) == (1, 1)


def test_a_model_of_several_inputs_takes_a_list() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(10, 3)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.cat([a, b], dim=1))

    example = ([torch.randn(4, 6), torch.randn(4, 4)], torch.zeros(4, dtype=torch.int64))
    plan = training_plan(Both(), F.cross_entropy, example=example)
    assert plan.input_specs is not None
    assert [s.index for s in plan.input_specs if s.type == PlanInputSpec.TYPE_DATA] == [0, 1]


def test_the_learning_rate_can_be_a_number_of_the_plan() -> None:
    plan = training_plan(
        mlp(), F.cross_entropy, example=vectors(4), lr=0.05, optimizer=functools.partial(torch.optim.RMSprop)
    )
    assert plan.input_specs is not None
    assert not [s for s in plan.input_specs if s.type == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM]


def test_an_optimizer_made_for_the_model_gives_its_settings() -> None:
    model = mlp()
    made = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    plan = training_plan(model, F.cross_entropy, example=vectors(4), optimizer=made)
    assert len(optimizer_state(plan)) == 4


def test_an_operation_outside_the_table_is_refused_with_its_place_in_the_code() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * torch.unique(x).numel()  # the line that the error names

    with pytest.raises(UnsupportedOpError, match=r"unique.*test_training\.py:\d+") as caught:
        training_plan(Outside(), F.cross_entropy, example=vectors(4))
    named = int(str(caught.value.source).rpartition(":")[2])
    assert "the line that the error names" in Path(__file__).read_text().splitlines()[named - 1]


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(TraceError, match=r"shape \[.*\].*mean"):
        training_plan(mlp(), functools.partial(F.cross_entropy, reduction="none"), example=vectors(4))


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(TraceError, match="nothing to train"):
        training_plan(nn.ReLU(), F.cross_entropy, example=vectors(4))
