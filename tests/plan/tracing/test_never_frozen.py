"""What changes from step to step never lands in a Plan as it is now: it is traced right, or refused."""

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fedplan.errors import TraceError
from fedplan.plan import Plan, model_parameters, trace, training_plan


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu()).relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(x))


class Checkpointed(Net):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(checkpoint(self.body, self.a(x), use_reentrant=self.reentrant))


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def batch(rows: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 6), torch.randint(3, (rows,))


def compare(plan: Plan, model: nn.Module, loss: Loss, steps: int = 3) -> None:
    """The Plan and eager SGD, from another model than the one that was traced."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    params = [p.clone() for p in model_parameters(model)]
    for rows in (8, 5, 7)[:steps]:
        x, y = batch(rows)
        optimizer.zero_grad()
        expected = loss(model(x), y)
        expected.backward()
        optimizer.step()
        cost, *params = plan(x, y, 0.1, *params)
        torch.testing.assert_close(cost, expected.detach())
        for ours, theirs in zip(params, model_parameters(model), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_that_are_computed_again_use_the_step_s_own_weights(reentrant: bool) -> None:
    model = Checkpointed(reentrant)
    plan = training_plan(model, F.cross_entropy, example=batch())
    assert plan.state == ()
    compare(plan, model, F.cross_entropy)


class Penalty:
    """A loss with a penalty on the size of the module's parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        size = sum((p * p).sum() for p in self.model.parameters())
        return F.cross_entropy(output, target) + 0.01 * size

    def __deepcopy__(self, memo: dict[int, object]) -> "Penalty":
        return Penalty(copy.deepcopy(self.model, memo))


def test_a_loss_reads_the_step_s_parameters_from_the_module() -> None:
    model = Net()
    plan = training_plan(model, Penalty(model), example=batch())
    assert plan.state == ()
    fresh = copy.deepcopy(model)
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)
    params = [p.clone() for p in model_parameters(model)]
    for _ in range(3):
        x, y = batch()
        optimizer.zero_grad()
        Penalty(fresh)(fresh(x), y).backward()
        optimizer.step()
        _, *params = plan(x, y, 0.1, *params)
        for ours, theirs in zip(params, fresh.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_parameters_in_a_list_that_was_made_before_are_refused() -> None:
    model = Net()
    kept = list(model.parameters())

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target) + sum((p * p).sum() for p in kept)

    with pytest.raises(TraceError, match=r"no parameter of the model.*model\.parameters"):
        training_plan(model, loss, example=batch())


def test_parameters_that_are_read_without_a_gradient_are_refused_by_name() -> None:
    model = Net()
    weight = model.a.weight

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target) * weight.detach().abs().mean()

    with pytest.raises(TraceError, match=r"the model's 'a\.weight' past the model's own attributes"):
        training_plan(model, loss, example=batch())


def test_a_loss_with_parameters_of_its_own_is_refused() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(output * self.scale, target)

    with pytest.raises(TraceError, match=r"shape \[3\] \(at .*\) that requires a gradient and is no"):
        training_plan(Net(), Weighted(), example=batch())


def test_a_frozen_teacher_is_a_constant() -> None:
    teacher, model = Net(), Net()

    class Distilled(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                wanted = teacher(x)
            return super().forward(x) - wanted

    student = Distilled()
    student.load_state_dict(model.state_dict())
    plan = training_plan(student, F.cross_entropy, example=batch())
    assert len(plan.state) == 6
    compare(plan, student, F.cross_entropy)


def test_a_copy_of_the_model_s_values_of_now_is_warned_of() -> None:
    model = Net()
    before = [p.detach().clone() for p in model.parameters()]

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        apart = sum(((p - q) ** 2).sum() for p, q in zip(model.parameters(), before, strict=True))
        return F.cross_entropy(output, target) + apart

    with pytest.warns(UserWarning, match=r"equal the model's 'a\.weight', .* as they are now"):
        training_plan(model, loss, example=batch())


class Counter(nn.Module):
    """Scales by a count of its runs, which it keeps in a buffer."""

    def __init__(self, dtype: torch.dtype = torch.int64, *, in_place: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.in_place = in_place
        self.register_buffer("runs", torch.zeros((), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.in_place:
            self.runs += 1
        else:
            self.runs = self.runs + 1
        return self.layer(x) * self.runs


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_buffer_that_is_written_and_read_is_a_tensor_of_the_model(
    dtype: torch.dtype, in_place: bool
) -> None:
    model = Counter(dtype, in_place=in_place)
    plan = training_plan(model, F.cross_entropy, example=batch())
    assert plan.inputs[-1].name == "runs"
    assert plan.inputs[-1].role == ("averaged" if dtype.is_floating_point else "counter")
    assert plan.inputs[-1].dtype == ("float32" if dtype.is_floating_point else "int32")
    assert model.runs == 0
    compare(plan, model, F.cross_entropy)


def test_a_buffer_of_numbers_that_int32_does_not_hold_keeps_its_dtype() -> None:
    model = Counter()
    model.runs += 2**40
    plan = training_plan(model, F.cross_entropy, example=batch())
    assert plan.inputs[-1].dtype == "int64"
    assert model_parameters(model)[-1].dtype == torch.int64


def test_a_mask_that_is_written_and_read_travels_as_whole_numbers() -> None:
    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("mask", torch.tensor([True, False, True, False, True, False]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = x * self.mask
            self.mask.logical_not_()
            return self.layer(kept)

    model = Alternating()
    plan = training_plan(model, F.cross_entropy, example=batch())
    assert (plan.inputs[-1].dtype, plan.inputs[-1].role) == ("int32", "counter")
    compare(plan, model, F.cross_entropy)


def test_a_count_of_batches_that_nothing_reads_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    plan = training_plan(model, F.cross_entropy, example=batch())
    assert [i.name for i in plan.inputs[3:]] == [
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        *("1.running_mean", "1.running_var"),
    ]
    assert [i.role for i in plan.inputs[3:]] == ["trained"] * 4 + ["averaged"] * 2


def test_a_count_of_batches_that_the_model_reads_is_refused() -> None:
    class Warming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            counted = self.norm.num_batches_tracked
            assert counted is not None
            warmed: torch.Tensor = self.norm(self.layer(x)) * torch.clamp(counted / 3, max=1.0)
            return warmed

    with pytest.raises(TraceError, match=r"reads 'norm.num_batches_tracked'.*a buffer of your own"):
        training_plan(Warming(), F.mse_loss, example=(torch.randn(4, 4), torch.randn(4, 3)))


def test_a_tensor_of_the_function_that_is_written_is_refused() -> None:
    seen = torch.zeros(6)

    def step(x: torch.Tensor) -> torch.Tensor:
        seen.add_(x.sum(0))
        return x * seen

    with pytest.raises(TraceError, match=r"writes to a tensor of the shape \[6\].*register_buffer"):
        trace(step, torch.randn(4, 6))


def test_a_tensor_of_the_function_to_which_a_gradient_goes_is_refused() -> None:
    weight = nn.Parameter(torch.randn(6))

    def step(x: torch.Tensor) -> torch.Tensor:
        loss = (x * weight).sum()
        loss.backward()
        return loss

    with pytest.raises(TraceError, match=r"a gradient goes to a tensor of the shape \[6\]"):
        trace(step, torch.randn(4, 6))
    assert weight.grad is None


def test_parameters_are_constants_of_a_function_that_does_not_train_them() -> None:
    model = Net()
    plan = trace(model, torch.randn(4, 6))
    x = torch.randn(3, 6)
    assert len(plan.state) == 6
    torch.testing.assert_close(plan(x)[0], model(x).detach())


def halved(gradient: torch.Tensor) -> torch.Tensor:
    return gradient * 0.5


def clamped(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.clamp_(-0.01, 0.01)


def test_functions_that_are_registered_for_gradients_see_those_of_the_step() -> None:
    model = Net()
    for net in (model, fresh := copy.deepcopy(model)):
        net.a.weight.register_hook(halved)
        net.b.weight.register_post_accumulate_grad_hook(clamped)
    plan = training_plan(model, F.cross_entropy, example=batch())
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)
    params = [p.clone() for p in model_parameters(model)]
    for _ in range(2):
        x, y = batch()
        optimizer.zero_grad()
        F.cross_entropy(fresh(x), y).backward()
        optimizer.step()
        _, *params = plan(x, y, 0.1, *params)
        for ours, theirs in zip(params, fresh.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


class TestPythonState:
    """What a module keeps in Python from run to run."""

    def test_a_cache_that_the_next_run_reads_is_refused(self) -> None:
        class Recurrent(Net):
            hidden: torch.Tensor | None = None

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.body(x).mean(0) + (0 if self.hidden is None else self.hidden)
                self.hidden = y.detach()
                return self.out(x + y)

        with pytest.raises(
            TraceError, match=r"sets 'hidden' \(at test_never_frozen\.py:\d+ in Rec.*register"
        ):
            training_plan(Recurrent(), F.cross_entropy, example=batch())

    def test_a_number_that_the_next_run_reads_is_refused(self) -> None:
        class Warming(Net):
            runs = 0

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.runs += 1
                return super().forward(x) * min(1.0, self.runs / 10)

        with pytest.raises(TraceError, match="sets 'runs'"):
            training_plan(Warming(), F.cross_entropy, example=batch())

    def test_what_nothing_reads_is_allowed_and_leaves_no_trace(self) -> None:
        class Noting(Net):
            def __init__(self) -> None:
                super().__init__()
                self.runs = 0
                self.seen: list[torch.Tensor] = []
                self.last: torch.Tensor | None = None

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.runs += 1
                self.last = self.body(x)
                self.seen.append(self.last)
                return self.out(self.last)

        model = Noting()
        before = copy.deepcopy(model.state_dict())
        plan = training_plan(model, F.cross_entropy, example=batch())
        assert (model.runs, model.seen, model.last) == (0, [], None)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        compare(plan, copy.deepcopy(model), F.cross_entropy)

    def test_a_module_is_put_back_when_tracing_fails(self) -> None:
        class Failing(Net):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.last = self.a(x)
                return torch.zeros(3, 3) if self.last.sum() > 0 else self.last

        model = Failing()
        with pytest.raises(TraceError, match="read into Python"):
            training_plan(model, F.cross_entropy, example=batch())
        assert not hasattr(model, "last")
        assert all(type(p) is nn.Parameter for p in model.parameters())


def test_weight_decay_in_the_loss_by_a_partial_function_is_traced_right() -> None:
    model = Net()

    def loss(output: torch.Tensor, target: torch.Tensor, *, of: nn.Module) -> torch.Tensor:
        return F.cross_entropy(output, target) + 0.1 * of.a.weight.norm()

    plan = training_plan(model, functools.partial(loss, of=model), example=batch())
    assert plan.state == ()
