"""Results that no Plan can have: refused when something reads them, and only then."""

import torch

_LIBRARY = torch.library.Library("fedplan", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("refused(Tensor like, str op, str instead) -> Tensor")  # type: ignore[no-untyped-call]
_LIBRARY.impl("refused", lambda like, op, instead: torch.empty_like(like), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]

REFUSED = torch.ops.fedplan.refused.default
"""What a recording holds in place of such a result."""


def refused(like: torch.Tensor, op: str, instead: str) -> torch.Tensor:
    """A stand-in for a result.

    Args:
        like: any tensor of the trace.
        op: the operation whose result it is.
        instead: what to do instead.
    """
    made: torch.Tensor = REFUSED(like.detach(), op, instead)
    return made
