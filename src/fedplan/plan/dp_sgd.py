"""DpSgd: the constants of differentially private gradient descent, as a Plan says them."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Self

from fedplan.errors import ConfigError

_TAG = "#fedplan-dp-sgd"
_NUMBER = r"(\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?)"
_TAGGED = re.compile(rf"{_TAG}:{_NUMBER}:{_NUMBER}:(\d{{1,18}})", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DpSgd:
    """DP-SGD on a worker: `training_plan(…, dp=fedplan.DpSgd(…))`. ::

        dp = fedplan.DpSgd(max_grad_norm=1.0, noise_multiplier=1.1, expected_batch_size=64)
        plan = fedplan.training_plan(model, F.cross_entropy, example=(images, labels), dp=dp)

    The gradient of each example is scaled down so that its 2-norm, over all trained parameters together, is
    at most `max_grad_norm`. The sum of them gets Gaussian noise with the standard deviation
    `noise_multiplier` · `max_grad_norm` on each number, and is divided by `expected_batch_size`. The
    optimizer is given the result (Abadi et al. 2016, arXiv 1607.00133). The noise comes from the worker's
    own seed.

    A worker that trains on whole arrays draws Poisson batches: each example is in each batch by a lot of its
    own, with the chance expected_batch_size / (number of its examples). The names are those of Opacus.

    Attributes:
        max_grad_norm: the clip C, in the unit of the gradients: a number above 0.
        noise_multiplier: the noise's standard deviation over `max_grad_norm`, from 0 up. With 0 there is no
            noise, gradients are clipped all the same, and ε is infinite.
        expected_batch_size: by what the noisy sum is divided, however many examples are in a batch; the mean
            size of a Poisson batch. A whole number from 1 up.

    Raises:
        ConfigError: one of them is no such number.
    """

    max_grad_norm: float
    noise_multiplier: float
    expected_batch_size: int

    def __post_init__(self) -> None:
        for name in ("max_grad_norm", "noise_multiplier"):
            value = getattr(self, name)
            least = "above 0" if name == "max_grad_norm" else "from 0 up"
            if not _is_number(value) or value < 0 or (name == "max_grad_norm" and value == 0):
                raise ConfigError(f"DpSgd: {name} is a finite number {least}, and it is {value!r}")
            object.__setattr__(self, name, float(value))
        size = self.expected_batch_size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size < 10**18:
            raise ConfigError(f"DpSgd: expected_batch_size is a whole number from 1 up, and it is {size!r}")

    def __str__(self) -> str:
        return (
            f"DP-SGD: each example's gradient clipped to the norm {self.max_grad_norm:g}, noise of "
            f"{self.noise_multiplier:g} times that, divided by {self.expected_batch_size}"
        )

    @property
    def tag(self) -> str:
        """The tag of a Plan message that says it."""
        return f"{_TAG}:{self.max_grad_norm!r}:{self.noise_multiplier!r}:{self.expected_batch_size}"

    @classmethod
    def from_tags(cls, tags: Iterable[str]) -> Self | None:
        """What the tags of a Plan message say; None where they say nothing that can be read."""
        for tag in tags:
            if (found := _TAGGED.fullmatch(tag)) is not None:
                try:
                    return cls(
                        max_grad_norm=float(found[1]),
                        noise_multiplier=float(found[2]),
                        expected_batch_size=int(found[3]),
                    )
                except ConfigError:
                    return None
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
