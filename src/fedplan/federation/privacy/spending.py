"""The ledger: what each cycle has spent of a model's privacy. It is never taken back."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from fedplan.federation.privacy.accounting import epsilon_after, is_within_budget
from fedplan.text import counted
from fedplan.wire.config import PrivacyConfig
from fedplan.wire.messages import PrivacySpent


@dataclasses.dataclass(frozen=True, slots=True)
class Spending:
    """What one cycle has spent. It is a model's for good, whatever becomes of the checkpoint that it made.

    Attributes:
        cycle: its number.
        checkpoint: number of the checkpoint that it made; None when it failed, which costs the same, for why
            it failed is known.
        mechanism: what added the noise.
        noise_multiplier: the noise's standard deviation over `clip`.
        clip: the largest norm of a report.
        clipping: of all tensors together (fixed), or of each by itself (per_layer).
        participants: reports in the sum.
        cohort: by what it was divided.
        delta: the δ for which `epsilon` holds.
        epsilon: of all cycles up to this one together.
    """

    cycle: int
    checkpoint: int | None
    mechanism: str
    noise_multiplier: float
    clip: float
    clipping: str
    participants: int
    cohort: int
    delta: float
    epsilon: float

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise on each number of the sum."""
        return self.noise_multiplier * self.clip

    @property
    def told(self) -> PrivacySpent:
        """As a history tells it."""
        own = dataclasses.asdict(self)
        del own["cycle"]
        return PrivacySpent(sigma=self.sigma, **own)

    def to_json(self) -> str:
        """As it stands in the store."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` gave."""
        told: Mapping[str, Any] = json.loads(text)
        return cls(**told)


def spending_of(
    config: PrivacyConfig, before: int, cycle: int, checkpoint: int | None, participants: int
) -> Spending:
    """What a cycle that has ended adds to the ledger.

    Args:
        config: the model's; it stays the same for all of its cycles.
        before: how many cycles are in the ledger already.
        cycle: the number of the cycle.
        checkpoint: of the checkpoint that it made, if it made one.
        participants: reports in it.
    """
    return Spending(
        cycle,
        checkpoint,
        f"{config.mechanism} discrete Gaussian",
        config.noise_multiplier,
        config.clip,
        config.clipping,
        participants,
        config.cohort,
        config.delta,
        epsilon_after(before + 1, config.noise_multiplier, config.delta),
    )


def told_privacy(config: PrivacyConfig, cycle: int) -> dict[str, Any]:
    """What workers of a cycle are told; see `ToldPrivacy`. All cycles before it have spent something.

    Args:
        config: the model's.
        cycle: the number of the cycle.
    """
    told = config.model_dump(exclude_none=True)
    return {**told, "epsilon": epsilon_after(cycle, config.noise_multiplier, config.delta)}


def why_budget_is_spent(cycles: int, config: PrivacyConfig | None) -> str | None:
    """Why no further cycle may open; None when one may.

    Args:
        cycles: how many are in the ledger.
        config: the model's.
    """
    if config is None or config.max_epsilon is None:
        return None
    spent, following = (epsilon_after(t, config.noise_multiplier, config.delta) for t in (cycles, cycles + 1))
    if is_within_budget(following, config.max_epsilon):
        return None
    return (
        f"the privacy budget is spent: {counted(cycles, 'cycle')} spent an ε of {spent:.4g} at a δ of "
        f"{config.delta:g}, one more would make it {following:.4g}, and max_epsilon is {config.max_epsilon:g}"
    )
