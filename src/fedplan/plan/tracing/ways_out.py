"""What to do in place of layers of PyTorch's that no Plan can have as they are."""

from collections.abc import Mapping

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


_MEANT: Mapping[str, str] = {
    "is not supported for tensor subclasses": (
        "a tensor's values are read into Python, by `.numpy()`. A Plan has no Python: compute with "
        "torch, and have metrics in `metrics=`."
    ),
    "_to_sparse": "a Plan has no sparse tensors: leave `.to_sparse()` out.",
}
"""What messages of PyTorch's mean for a Plan, by what stands in them."""


def of_message(message: str) -> str | None:
    """What a message of PyTorch's means for a Plan, where it says something else."""
    return next((meant for part, meant in _MEANT.items() if part in message), None)


def of_layer(place: str | None) -> str | None:
    """The advice for the layer of a place, such as ``net.py:12 in encoder.0: BatchNorm1d``."""
    return None if place is None else LAYERS.get(place.rpartition(" ")[2])
