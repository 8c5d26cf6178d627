"""Functions that PySyft records as one action, and that are several operations of the op table."""

from collections.abc import Callable, Mapping, Sequence

from fedplan.errors import UnsupportedOpError
from fedplan.plan.ir.builder import Builder
from fedplan.plan.ir.graph import Arg

Rule = Callable[[Builder, Sequence[Arg], Mapping[str, Arg]], Arg | None]
"""(graph in the making, positional arguments, those by name) → the result; None where they do not fit."""

REDUCTIONS: Mapping[Arg, int] = {"none": 0, "mean": 1, "sum": 2}


def _given(
    names: Sequence[str], args: Sequence[Arg], kwargs: Mapping[str, Arg], defaults: Mapping[str, Arg]
) -> dict[str, Arg] | None:
    """Each argument by its name; None if there are too many, or one is missing."""
    found = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    fits = len(args) <= len(names) and found.keys() == set(names)
    return found if fits and not set(names[: len(args)]) & kwargs.keys() else None


def _variance(builder: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
    """`torch.var(x, unbiased)` and `torch.var(x, dim, unbiased, keepdim)`."""
    whole = "dim" not in kwargs and (len(args) == 1 or isinstance(args[1], bool))
    names = ("input", "unbiased") if whole else ("input", "dim", "unbiased", "keepdim")
    found = _given(names, args, kwargs, {"unbiased": True} if whole else {"unbiased": True, "keepdim": False})
    if found is None:
        return None
    dim = found.get("dim")
    dims = (dim,) if isinstance(dim, int) else dim
    return builder.emit(
        "aten.var.correction",
        (found["input"], dims, 1 if found["unbiased"] else 0, found.get("keepdim", False)),
    )[0]


def _deviation(builder: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
    variance = _variance(builder, args, kwargs)
    return None if variance is None else builder.emit("aten.sqrt.default", (variance,))[0]


def _likelihood(builder: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
    """`F.nll_loss`; `size_average` and `reduce` are the old names of `reduction`."""
    names = ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction")
    defaults: dict[str, Arg] = {
        "weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean"
    }  # fmt: skip
    found = _given(names, args, kwargs, defaults)
    if found is None:
        return None
    reduction = REDUCTIONS.get(found["reduction"], found["reduction"])
    if found["size_average"] is not None or found["reduce"] is not None:
        reduction = 0 if found["reduce"] is False else 2 if found["size_average"] is False else 1
    loss = (found["input"], found["target"], found["weight"], reduction, found["ignore_index"])
    return builder.emit("aten.nll_loss_forward.default", loss, 2)[0]


def _poisson(builder: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
    """`F.poisson_nll_loss`, without the old names of `reduction`."""
    names = ("input", "target", "log_input", "full", "size_average", "eps", "reduce", "reduction")
    defaults: dict[str, Arg] = {
        "log_input": True, "full": False, "size_average": None, "eps": 1e-8, "reduce": None,
        "reduction": "mean",
    }  # fmt: skip
    found = _given(names, args, kwargs, defaults)
    if found is None or found["size_average"] is not None or found["reduce"] is not None:
        return None
    reduction = REDUCTIONS.get(found["reduction"], found["reduction"])
    loss = (found["input"], found["target"], found["log_input"], found["full"], found["eps"], reduction)
    return builder.emit("aten.poisson_nll_loss.default", loss)[0]


def _adaptive_pool(rank: int) -> Rule:
    def pool(builder: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
        """One number is the size of all dimensions."""
        found = _given(("input", "output_size"), args, kwargs, {})
        if found is None:
            return None
        size = found["output_size"]
        sizes = (size,) * rank if isinstance(size, int) else size
        return builder.emit(f"aten.adaptive_avg_pool{rank}d.default", (found["input"], sizes))[0]

    return pool


def _dropout(_: Builder, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> Arg | None:
    """`F.dropout` where it drops nothing."""
    names = ("input", "p", "training")
    found = _given(names, args[:3], kwargs, {"p": 0.5, "training": True})
    if found is None:
        return None
    if found["training"] and found["p"] != 0:
        raise UnsupportedOpError(
            "torch.nn.functional.dropout",
            instead=(
                "Its random numbers would be an input, and a PySyft Plan does not say of which shape. Make "
                "the Plan with fedplan.training_plan, or with training=False."
            ),
        )
    return found["input"]


RULES: Mapping[str, Rule] = {
    "adaptive_avg_pool2d": _adaptive_pool(2),
    "adaptive_avg_pool3d": _adaptive_pool(3),
    "dropout": _dropout,
    "nll_loss": _likelihood,
    "poisson_nll_loss": _poisson,
    "std": _deviation,
    "var": _variance,
}
"""By the function's name."""
