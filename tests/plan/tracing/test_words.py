"""What PyTorch says while a step is traced reaches the author in terms of the example, and once."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import StepContext, training_plan
from tests.plan.tracing.agreement import check_training

ROWS = 8
X, Y = torch.randn(ROWS, 4), torch.randint(0, 3, (ROWS,))


class Net(nn.Module):
    """A layer, and what a test does with it."""

    def __init__(self, forward: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self.layer, x)


def traced(forward: Callable[[nn.Linear, Tensor], Tensor], target: Tensor = Y) -> None:
    training_plan(Net(forward), F.cross_entropy, example=(X, target))


def per_sample(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="none")


def test_shapes_in_messages_are_those_of_the_example() -> None:
    with pytest.raises(TraceError, match=r"got \[8, 3\] X \[4, 3\]"):
        traced(lambda layer, x: layer(x[:, :3]))
    with pytest.raises(TraceError, match=r"tensor a \(8\) must match the size of tensor b \(5\)"):
        traced(lambda layer, x: layer(x) + torch.ones(5, 3))
    with pytest.raises(TraceError, match=r"batch_size \(8\) to match target batch_size \(5\)"):
        traced(lambda layer, x: layer(x), Y[:5])
    with pytest.raises(TraceError, match=r"the loss has the shape \[8\]"):
        training_plan(nn.Linear(4, 3), per_sample, example=(X, Y))


def test_a_question_about_the_batch_size_is_asked_of_rows() -> None:
    with pytest.raises(TraceError, match=r"it asks whether rows > 4 at test_words\.py"):
        traced(lambda layer, x: layer(x) if x.shape[0] > 4 else -layer(x))


def test_a_failure_is_told_once_and_not_logged_by_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[logging.LogRecord] = []
    log = logging.getLogger("torch._subclasses.fake_tensor")
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        with pytest.raises(TraceError, match="reduction dim"):
            traced(lambda layer, x: layer(x[:, :3]))
        assert not heard
        log.error("what others say is heard again")
        assert len(heard) == 1
    finally:
        log.removeHandler(handler)


def test_a_warning_names_the_authors_line_and_the_examples_shape() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training_plan(nn.Linear(4, 1), F.mse_loss, example=(X, torch.randn(ROWS)))
    (warning,) = caught
    assert Path(warning.filename).name == Path(__file__).name
    assert "torch.Size([8])) that is different to the input size (torch.Size([8, 1]))" in str(warning.message)


def test_an_authors_filter_of_warnings_holds() -> None:
    def warning(layer: nn.Linear, x: Tensor) -> Tensor:
        warnings.warn("as it pleases the author", stacklevel=1)
        return layer(x)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=__name__.replace(".", r"\."))
        traced(warning)
    with pytest.raises(UserWarning, match="as it pleases"):
        traced(warning)  # the tests' own filter makes errors of warnings


@pytest.mark.parametrize(
    "forward",
    [
        lambda layer, x: torch.stack([layer(row) for row in x]),
        lambda layer, x: layer(x) / len(x),
        lambda layer, x: layer(x) + sum(x.sum(1).tolist()),
    ],
    ids=["loop", "len", "tolist"],
)
def test_what_fixes_the_number_of_rows_is_named_with_the_ways_out(
    forward: Callable[[nn.Linear, Tensor], Tensor],
) -> None:
    with pytest.raises(
        TraceError, match=r"8 rows .* test_words\.py:\d+ in Net\. A number .* a loop over the rows, `len"
    ):
        traced(forward)


def test_numpys_functions_are_refused_at_the_authors_line() -> None:
    with pytest.raises(
        TraceError, match=r"at test_words\.py:\d+ in Net: NumPy cannot compute .* function of"
    ):
        traced(lambda layer, x: layer(x) + float(np.mean(x.detach())))  # type: ignore[call-overload]


def test_an_operation_that_pytorch_cannot_trace_is_named() -> None:
    def nested(layer: nn.Linear, x: Tensor) -> Tensor:
        return torch.nested.nested_tensor([layer(x)]).to_padded_tensor(0.0)

    with pytest.raises(TraceError, match=r"does not know the operation 'aten\._nested"):
        traced(nested)


def test_what_has_no_value_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def printing(layer: nn.Linear, x: Tensor) -> Tensor:
        out: Tensor = layer(x)
        print(f"mean {out.mean():.3f}, {out.sum().item():.3f} of {x.shape[0]:d}")
        return out

    traced(printing)
    assert capsys.readouterr().out == "mean (tensor without a value), (number without a value) of 8\n"
    assert f"{torch.tensor(0.5):.2f}" == "0.50"


@pytest.mark.parametrize("root", [lambda x: x.shape[0] ** 0.5, lambda x: np.sqrt(x.shape[0])])
def test_a_root_of_the_rows_is_refused_and_the_way_out_works(root: Callable[[Tensor], float]) -> None:
    with pytest.raises(TraceError, match=r"a number of rows.*`x\.new_full\(\(\), x\.shape\[0\]\)\.sqrt"):
        traced(lambda layer, x: layer(x) / root(x))
    check_training(
        lambda: Net(lambda layer, x: layer(x) / x.new_full((), x.shape[0]).sqrt()),
        lambda rows: (torch.randn(rows, 4), torch.randn(rows, 3)),
    )


def test_a_wrong_name_of_a_tensor_is_told_with_the_names_that_there_are() -> None:
    def loss(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
        return F.cross_entropy(output, target) + step.received["wieght"].sum()

    with pytest.raises(TraceError, match=r"'wieght' of the model, which has weight, bias.*weight"):
        training_plan(nn.Linear(4, 3), loss, example=(X, Y))


def test_a_sparse_example_is_refused() -> None:
    with pytest.raises(TraceError, match=r"example 0 is sparse.*to_dense"):
        training_plan(nn.Linear(4, 3), F.cross_entropy, example=(X.to_sparse(), Y))


def compiled_inside() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), torch.compile(nn.Linear(4, 3)))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # of PyTorch's own import
@pytest.mark.parametrize(
    "model", [lambda: torch.compile(nn.Linear(4, 3)), compiled_inside], ids=["whole", "a part"]
)
def test_a_compiled_model_is_traced_as_the_module_that_it_wraps(model: Callable[[], nn.Module]) -> None:
    made = model()
    plan = training_plan(made, F.cross_entropy, example=(X, Y))
    loss, *after = plan(X, Y, torch.tensor([0.1]), *(p.detach() for p in made.parameters()))
    bare = nn.Sequential(*(m for m in made.modules() if type(m) is nn.Linear))
    expected = F.cross_entropy(bare(X), Y)
    gradients = torch.autograd.grad(expected, list(bare.parameters()))
    assert torch.allclose(loss, expected.detach(), atol=1e-6)
    for new, old, gradient in zip(after, bare.parameters(), gradients, strict=True):
        assert torch.allclose(new, old.detach() - 0.1 * gradient, atol=1e-6)


def test_a_scripted_model_is_refused_with_what_to_give_instead() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(4, 3))
    with pytest.raises(TraceError, match="give the module that it was made of"):
        training_plan(scripted, F.cross_entropy, example=(X, Y))
