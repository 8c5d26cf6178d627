"""What to do in place of what no Plan can have."""

import re
from collections.abc import Mapping

from fedplan.plan.tracing import source

LAYERS: Mapping[str, str] = {
    "AdaptiveLogSoftmaxWithLoss": (
        "Which words it looks at depends on the targets. Its `log_prob(x)` looks at all of them: "
        "`F.nll_loss(head.log_prob(x), target)` is the same loss."
    ),
    "CrossMapLRN2d": (
        "Use `nn.LocalResponseNorm`, which takes the same arguments. Its results are others: "
        "`nn.CrossMapLRN2d` adds up more channels than it says."
    ),
    **dict.fromkeys(
        [f"{kind}BatchNorm{rank}d" for kind in ("", "Lazy") for rank in (1, 2, 3)],
        "Without `momentum` its averages weigh a batch by how many there were: give it a number.",
    ),
}
"""Advice by the class of the layer that was running."""


_SIZES = (
    "Sizes have +, -, *, / and //; for anything else make a tensor of them, as in "
    "`x.new_full((), x.shape[0]).sqrt()`."
)

BACKWARD = (
    "Take derivatives backward: `jacrev(f)` for `jacfwd(f)`, `jacrev(jacrev(f))` for `hessian(f)`, "
    "`torch.autograd.functional.jvp` for `torch.func.jvp`."
)

_MEANT: Mapping[str, str] = {
    "is not supported for tensor subclasses": (
        "a tensor's values are read into Python, by `.numpy()`. A Plan has no Python: compute with "
        "torch, and have metrics in `metrics=`."
    ),
    "loop of ufunc does not support argument 0 of type Sym": (
        "NumPy cannot compute with a number of rows. " + _SIZES
    ),
    "unhashable type: non-nested SymInt": (
        "a number of rows is a key, of a `dict` or of `functools.cache`. A Plan has any number of rows: "
        "compute what is looked up each time."
    ),
    "its data is not allocated yet": (
        "a tensor's values are read into Python, as `torch.tensor([loss_a, loss_b])` reads them: use "
        "`torch.stack`."
    ),
    "no rule registered for HigherOrderOperator": (
        "PyTorch's tracer does not know control flow such as `torch.cond`: compute both sides, and take "
        "`torch.where`."
    ),
    "Couldn't swap": (
        "a layer is converted or moved while the model runs (`layer.double()`, `layer.to(…)`). Do it before "
        "the model is traced, or convert the tensors that the layer computes with."
    ),
    "at least two devices, meta and cpu": (
        f"PyTorch's tracer loses its way, as it does where derivatives are taken forward. {BACKWARD}"
    ),
    "_to_sparse": "a Plan has no sparse tensors: leave `.to_sparse()` out.",
}
"""What messages of PyTorch's mean for a Plan, by what stands in them."""


_OPERATION = re.compile(r"[a-z_]+\.\w+\.\w+")
"""All that PyTorch's tracer says of an operation that it does not know."""


def of_error(error: Exception, message: str) -> str | None:
    """What an error of PyTorch's means for a Plan, where its message says something else."""
    if _OPERATION.fullmatch(message):
        return f"PyTorch's tracer does not know the operation '{message}'. Compute it from others."
    if source.is_numpys(error):
        return f"NumPy cannot compute with the tensors of a trace ({message}). Use the function of torch."
    return next((meant for part, meant in _MEANT.items() if part in message), None)


def of_size(function: object, place: str | None) -> str:
    """What to say of a number of rows that a function of Python's is given."""
    name = getattr(function, "__name__", str(function))
    return f"a number of rows is computed with by `{name}`{at(place)}, which a Plan cannot. {_SIZES}"


def of_read(place: str | None) -> str:
    """What to say of a value that is read into Python."""
    advice = of_layer(place) or "Keep the value a tensor, and use `torch.where` in place of `if`."
    return (
        f"a tensor's value is read into Python{at(place)}, by `.item()`, `float(t)`, `if t > 0` or the like. "
        f"A Plan has no Python. {advice}"
    )


def of_fixed_rows(place: str | None) -> str:
    """What to do where a step fixes the number of rows."""
    if place is not None and place.endswith("ScriptModule"):
        return (
            "What `torch.jit.script` made knows the sizes of its example only: give the module that it was "
            "made of."
        )
    return (
        "A number in its place (`view(8, -1)`), a loop over the rows, `len(x)`, `.tolist()` and `.numpy()` "
        "fix it: compute on all rows at once (or by `torch.vmap`) and read sizes by `x.shape[0]`. So do "
        f"`torch.func.jvp`, `jacfwd` and `hessian`. {BACKWARD} Or keep this one size with pin_batch=True."
    )


def at(place: str | None) -> str:
    """A place as the end of a clause; nothing where it is not known."""
    return f" at {place}" if place else ""


def of_layer(place: str | None) -> str | None:
    """The advice for the layer of a place, such as ``net.py:12 in encoder.0: BatchNorm1d``."""
    return None if place is None else LAYERS.get(place.rpartition(" ")[2])
