"""Clients that train side by side get what each of them gets alone."""

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanInputError, PlanLimitError
from fedplan.plan import Limits, Plan, PlanInputSpec, StepContext, model_parameters, trace, training_plan
from fedplan.plan.clients.compiler import compile_for_clients
from fedplan.plan.clients.plan import over_clients
from fedplan.plan.clients.training import ClientsTraining
from tests.plan.clients.agreement import Batch, Federation
from tests.plan.families import FAMILIES, cnn, images, mlp, sgd, vectors
from tests.plan.tracing.test_training import plan_of, traced

CLIENTS = 3


def batches_of(make: Callable[[int], tuple[torch.Tensor, torch.Tensor]], sizes: list[int]) -> list[Batch]:
    made = [make(rows) for rows in sizes]
    return [([x], y) for x, y in made]


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_models_trains_as_it_does_alone(name: str) -> None:
    model, plan = traced(name)
    torch.manual_seed(1)
    family = FAMILIES[name]
    federation = Federation(plan, model_parameters(model))
    for rows in family.sizes:
        # PyTorch's LSTM for one client rounds in its own way
        federation.check([batches_of(family.batch, [rows] * 3) for _ in range(CLIENTS)], of_update=3e-6)


@pytest.mark.some(24)
@pytest.mark.parametrize("name", FAMILIES)
def test_in_float64_they_differ_by_its_rounding(name: str) -> None:
    torch.manual_seed(2)
    family = FAMILIES[name]
    torch.set_default_dtype(torch.float64)
    try:
        model = family.model()
        plan = plan_of(family, model)
        batches = [batches_of(family.batch, [4] * 3) for _ in range(CLIENTS)]
        Federation(plan, model_parameters(model)).check(batches)
    finally:
        torch.set_default_dtype(torch.float32)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": sgd(),
    "momentum": sgd(momentum=0.9),
    "Nesterov": sgd(momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": functools.partial(torch.optim.Adam, lr=0.01),
    "AMSGrad": functools.partial(torch.optim.Adam, lr=0.01, amsgrad=True),
    "AdamW": functools.partial(torch.optim.AdamW, lr=0.01),
    "RMSprop": functools.partial(torch.optim.RMSprop, lr=0.01, momentum=0.5),
    "Adagrad": functools.partial(torch.optim.Adagrad, lr=0.01),
}


@pytest.mark.some(18)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_a_state_for_each_client(name: str) -> None:
    torch.manual_seed(3)
    model = mlp()
    plan = training_plan(model, F.cross_entropy, example=vectors(5), optimizer=OPTIMIZERS[name])
    batches = [batches_of(vectors, [6] * 3) for _ in range(CLIENTS)]
    # a quotient by a root of small numbers makes roundings of these larger
    of_update = 1e-6 if name in ("SGD", "momentum", "Nesterov", "Adam") else 3e-6
    Federation(plan, model_parameters(model)).check(batches, of_update)


def test_batches_of_any_size_train_and_none_is_left_out() -> None:
    torch.manual_seed(4)
    sizes = [[4, 4, 2], [4, 4, 4, 1], [3], [4, 2], [4, 4, 2], [4, 4, 4, 4, 4]]
    for name in ("MLP", "CNN with batch norm", "MLP, Adam"):
        model, plan = traced(name)
        batches = [batches_of(FAMILIES[name].batch, own) for own in sizes]
        federation = Federation(plan, model_parameters(model))
        federation.check(batches)
        assert [len(client.loss) for client in federation.together(batches)] == list(map(len, sizes))


def test_each_client_has_its_own_dropout() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
    plan = training_plan(model, F.cross_entropy, example=vectors(5))
    same = batches_of(vectors, [6] * 3)
    federation = Federation(plan, model_parameters(model))
    federation.check([same] * CLIENTS)
    first, second, _ = federation.together([same] * CLIENTS)
    assert not torch.equal(first.tensors[0], second.tensors[0])


def test_a_loss_may_read_the_step_the_cycle_the_config_and_the_model_as_received() -> None:
    def proximal(output: torch.Tensor, target: torch.Tensor, step: StepContext) -> torch.Tensor:
        apart = sum((p - step.received[name]).square().sum() for name, p in step.parameters.items())
        decay = step.config["mu"] / (1 + step.number + step.cycle)
        return F.cross_entropy(output, target) + (decay * apart).sum()

    torch.manual_seed(6)
    model = mlp()
    plan = training_plan(model, proximal, example=vectors(5), config=["mu"])
    batches = [batches_of(vectors, sizes) for sizes in ([4, 4, 3], [4, 3], [4, 4, 4])]
    Federation(plan, model_parameters(model), {"mu": 0.5}).check(batches)


def test_frozen_layers_are_shared_and_private_ones_are_not() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    plan = training_plan(model, F.cross_entropy, example=vectors(5), private=["3.*"])
    kinds = {place: plan.inputs[place].name for place in over_clients(plan).apart}
    assert not {"0.weight", "0.bias"} & set(kinds.values())
    assert {"3.weight", "3.bias"} <= set(kinds.values())
    federation = Federation(plan, model_parameters(model))
    frozen = [k for k, item in enumerate(plan.inputs) if item.role == "frozen"]
    for place in frozen:
        federation.carried.pop(place, None)
    federation.check([batches_of(vectors, [6] * 3) for _ in range(CLIENTS)])


def test_results_do_not_depend_on_who_trains_beside_a_client() -> None:
    torch.manual_seed(8)
    model, plan = traced("MLP")
    federation = Federation(plan, model_parameters(model))
    batches = [batches_of(vectors, [4] * 3) for _ in range(8)]
    whole = federation.together(batches)
    for part in (slice(0, 1), slice(2, 5), slice(3, 8)):
        for one, other in zip(whole[part], federation.together(batches[part]), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.tensors, other.tensors, strict=True))


def test_one_client_alone_may_be_all_there_are() -> None:
    model, plan = traced("CNN with batch norm")
    Federation(plan, model_parameters(model)).check([batches_of(images, [4, 4])])


# Memory


def training(plan: Plan, model: nn.Module, count: int = CLIENTS) -> ClientsTraining:
    federation = Federation(plan, model_parameters(model))
    given = [value if value is None else torch.stack([value] * count) for value in federation.start()]
    for place in federation.fixed:
        given[place] = federation.start()[place]
    return ClientsTraining(
        over_clients(plan), given, varying=[0, 1], carried=federation.carried, fixed=federation.fixed
    )


def stacked(rows: int, count: int = CLIENTS) -> list[torch.Tensor]:
    made = [vectors(rows) for _ in range(count)]
    return [torch.stack([x for x, _ in made]), torch.stack([y for _, y in made])]


@pytest.mark.parametrize("name", ["MLP", "MLP, Adam", "MLP, momentum"])
def test_parameters_and_optimizer_state_are_updated_where_they_stand(name: str) -> None:
    model, plan = traced(name)
    run = training(plan, model)
    run(stacked(4))
    large = [place for place, value in run.carried().items() if value[0].numel() > 1]
    addresses = [run.carried()[place].data_ptr() for place in large]
    run(stacked(4))
    assert [run.carried()[place].data_ptr() for place in large] == addresses


def test_data_and_shared_arguments_are_not_changed() -> None:
    model, plan = traced("MLP, Adam")
    run = training(plan, model)
    values = stacked(4)
    before = [value.clone() for value in values]
    run(values)
    assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))


def test_some_clients_train_and_the_others_keep_what_they_have() -> None:
    model, plan = traced("MLP")
    for among, chosen in ((slice(1, 3), [1, 2]), (torch.tensor([2, 0]), [2, 0]), (None, [0, 1, 2])):
        run = training(plan, model)
        before = {place: value.clone() for place, value in run.carried().items()}
        outputs = run(stacked(4, len(chosen)), among)
        assert all(len(output) == len(chosen) for output in outputs)
        for place, value in run.carried().items():
            changed = [not torch.equal(value[k], before[place][k]) for k in range(CLIENTS)]
            assert [k for k in range(CLIENTS) if changed[k]] == sorted(chosen)


def test_some_may_run_after_a_run_that_wrote_some_tensors_anew() -> None:
    plan = trace(lambda x, w: [w.flip(0) + x], torch.zeros(2), torch.zeros(2))
    clients, start = over_clients(plan), torch.arange(6.0).view(3, 2)
    run = ClientsTraining(clients, [None, start.clone()], varying=[0], carried={1: 0}, apart=[0, 1])
    run([torch.zeros(3, 2)])
    run([torch.ones(2, 2)], torch.tensor([2, 0]))
    run([torch.ones(1, 2)], slice(1, 2))
    expected = torch.stack([start[0] + 1, start[1].clone(), start[2] + 1])
    expected[1] = start[1] + 1
    assert torch.equal(run.carried()[1], expected)


def test_clients_that_have_only_data_of_their_own_carry_nothing() -> None:
    plan = trace(lambda x, w: [x @ w], torch.zeros(4, 2), torch.zeros(2))
    run = ClientsTraining(
        over_clients(plan), [None, torch.tensor([1.0, 2.0])], varying=[0], carried={}, apart=[0]
    )
    assert run.count is None
    assert run.among([0, 1]) is None
    for count in (3, 5):
        x = torch.randn(count, 4, 2)
        assert torch.allclose(run([x])[0], x @ torch.tensor([1.0, 2.0]))


def test_executors_are_shared_by_all_trainings_of_a_plan_whatever_the_number_of_clients() -> None:
    model, plan = traced("MLP")
    clients = over_clients(plan)
    federation = Federation(plan, model_parameters(model))
    for count in (1, 2, 5):
        given = [
            value if value is None or k in federation.fixed else torch.stack([value] * count)
            for k, value in enumerate(federation.start())
        ]
        run = ClientsTraining(
            clients, given, varying=[0, 1], carried=federation.carried, fixed=federation.fixed
        )
        run(stacked(4, count))
    assert len(clients._executors) == 1


def test_executors_of_ever_new_shapes_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []

    def noted(*args: Any) -> Any:
        run = compile_for_clients(*args)
        made.append(weakref.ref(run))
        return run

    monkeypatch.setattr("fedplan.plan.clients.plan.EXECUTORS", 3)
    monkeypatch.setattr("fedplan.plan.clients.training.EXECUTORS", 3)
    monkeypatch.setattr("fedplan.plan.clients.plan.compile_for_clients", noted)
    plan = trace(lambda x: x * 2, torch.zeros(4, 2), inputs=[PlanInputSpec(PlanInputSpec.TYPE_DATA)])
    run = ClientsTraining(over_clients(plan), [None], varying=[0], carried={})
    for rows in range(1, 9):
        run([torch.ones(2, rows, 2)])
    gc.collect()
    assert [executor() is not None for executor in made] == [False] * 5 + [True] * 3


# What is refused


def test_a_run_that_fails_leaves_all_clients_as_they_were() -> None:
    model, plan = traced("MLP")
    run = training(plan, model)
    run(stacked(4))
    before = {place: value.clone() for place, value in run.carried().items()}
    x, y = stacked(4)
    y[1, 2] = 7
    with pytest.raises(PlanExecutionError, match="out of bounds"):
        run([x, y])
    assert all(torch.equal(value, before[place]) for place, value in run.carried().items())


def test_arguments_of_different_numbers_of_clients_are_refused() -> None:
    model, plan = traced("MLP")
    run = training(plan, model)
    x, y = stacked(4)
    for values in ([x[:1], y], [x, y[:2]], [x[:1], y[:1]]):
        with pytest.raises(PlanInputError, match="clients"):
            run(values)
    with pytest.raises(PlanInputError, match="first axis"):
        run([x[:0], y])
    with pytest.raises(PlanInputError, match="shape"):
        run([x[0], y])


def test_a_client_that_is_named_twice_is_refused() -> None:
    model, plan = traced("MLP")
    run = training(plan, model)
    with pytest.raises(PlanInputError, match="twice"):
        run(stacked(4, 2), torch.tensor([1, 1]))


def test_a_step_of_clients_that_do_not_share_what_is_shared_is_refused() -> None:
    plan = trace(lambda x, s, w: [w - s * x], torch.randn(3), torch.ones(1), torch.randn(3))
    run = ClientsTraining(
        over_clients(plan), [None, None, torch.zeros(2, 3)], varying=[0, 1], carried={2: 0}, apart=[0]
    )
    x, one = torch.randn(3), torch.ones(1)
    run.step([[x, one], [x, one.clone()]])
    with pytest.raises(PlanInputError, match="apart"):
        run.step([[x, one], [x, one * 2]])


def test_what_each_client_has_cannot_be_compiled_in() -> None:
    model, plan = traced("MLP")
    federation = Federation(plan, model_parameters(model))
    with pytest.raises(PlanInputError, match="compiled in"):
        ClientsTraining(
            over_clients(plan), federation.start(), varying=[0, 1], carried=federation.carried, fixed=[3]
        )


def test_limits_hold_for_each_client() -> None:
    model, plan = traced("MLP")
    tight = Plan(plan.name, plan.inputs, plan.outputs, plan.graph, limits=Limits(max_work=100_000))
    run = training(tight, model)
    run(stacked(4))
    with pytest.raises(PlanLimitError):
        run(stacked(4000))


def test_parameters_that_come_back_in_another_form_are_refused() -> None:
    plan = trace(lambda x, w: [torch.cat([w, x])], torch.randn(2, 3), torch.randn(2, 3))
    run = ClientsTraining(
        over_clients(plan), [None, torch.zeros(2, 2, 3)], varying=[0], carried={1: 0}, apart=[0, 1]
    )
    with pytest.raises(PlanExecutionError, match="one after the other"):
        run([torch.randn(2, 2, 3)])


def test_batch_norm_refuses_a_batch_of_one_sample_as_it_does_alone() -> None:
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    plan = training_plan(model, F.cross_entropy, example=vectors(5))
    federation = Federation(plan, model_parameters(model))
    with pytest.raises(PlanExecutionError, match="batch norm in training mode"):
        federation.together([batches_of(vectors, [4, 1])] * 2)


def test_how_many_clients_run_at_once_follows_from_their_memory() -> None:
    small, large = (
        training_plan(nn.Linear(6, width), F.mse_loss, example=(torch.randn(2, 6), torch.randn(2, width)))
        for width in (3, 3000)
    )
    counts = [
        over_clients(plan).at_once(
            [
                ((8, 6), "float32"),
                ((8, w), "float32"),
                ((1,), "float32"),
                ((w, 6), "float32"),
                ((w,), "float32"),
            ]
        )
        for plan, w in ((small, 3), (large, 3000))
    ]
    assert counts[0] > 1000 > counts[1] >= 1


def test_a_convolution_has_a_group_for_each_client() -> None:
    model = cnn()
    plan = training_plan(model, F.cross_entropy, example=images(5))
    Federation(plan, model_parameters(model)).check([batches_of(images, [4] * 2) for _ in range(5)])
