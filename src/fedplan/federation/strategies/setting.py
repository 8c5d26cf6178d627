"""What a strategy is made for: the model and its two configurations."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedplan.federation.privacy import told_privacy
from fedplan.federation.schedule import config_at
from fedplan.federation.sums import MetricNames
from fedplan.federation.tensors import Float64s, Layout, Tensors, part_of, reach_of, to_float64
from fedplan.federation.update import Weighting
from fedplan.plan.signature import Role
from fedplan.wire.compression import FORMATS_KEY
from fedplan.wire.config import PRIVACY_KEY, ServerConfig
from fedplan.wire.state import Places

_LEAST_EXPONENT = 1000
"""No scale is larger than 2 to this power: float64 holds it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The model that a strategy trains.

    Attributes:
        server: the server_config.
        client: the client_config.
        layout: of all tensors of the model.
        changing: which of them change; None when all may.
        roles: of those that change, in their order.
        evaluates: whether workers measure it with an evaluation Plan.
        measured: the metrics of its Plans, by the names that a history has for them; None where that is not
            known, for the Plans do not say what they return.
    """

    server: ServerConfig
    client: Mapping[str, Any]
    layout: Layout
    changing: Places
    roles: tuple[Role, ...]
    evaluates: bool = False
    measured: frozenset[str] | None = None

    @property
    def metric_names(self) -> MetricNames:
        """Which metrics of workers are kept."""
        goals = (self.server.best, self.server.stop)
        wanted = frozenset(goal.metric for goal in goals if goal is not None)
        return MetricNames(self.measured, wanted, frozenset(self.server.metrics))

    @property
    def changing_layout(self) -> Layout:
        """Of the tensors that change."""
        return part_of(self.layout, self.changing)

    def places(self, role: Role) -> tuple[int, ...]:
        """The tensors of a role, by their places among those that change."""
        return tuple(place for place, found in enumerate(self.roles) if found is role)

    @property
    def trained(self) -> tuple[int, ...]:
        """The trained tensors, by their places among those that change."""
        return self.places(Role.TRAINED)

    def told_at(self, cycle: int) -> dict[str, Any]:
        """What workers are told in a cycle: its numbers, forms of reports, and what protects them."""
        told = config_at(self.client, cycle)
        formats, privacy = self.server.report_formats, self.server.privacy
        if formats:
            told = {**told, FORMATS_KEY: list(formats)}
        return told if privacy is None else {**told, PRIVACY_KEY: told_privacy(privacy, cycle)}

    @property
    def weighting(self) -> Weighting:
        """How much an update counts, as the server_config says."""
        config = self.server
        return Weighting(config.weighting == "samples", config.untold_weight, config.max_weight)

    def zeros(self, places: Sequence[int]) -> list[Float64s]:
        """Zeros in the shapes of some of the tensors that change."""
        layout = self.changing_layout
        return [np.zeros(layout[place][0]) for place in places]

    def vector(self, tensors: Sequence[Float64s]) -> Float64s:
        """The trained ones of some tensors as one vector: (elements,)."""
        parts = [np.reshape(tensors[place], -1) for place in self.trained]
        return np.concatenate(parts) if parts else np.zeros(0)

    def norm(self, diff: Tensors) -> float:
        """The Euclidean norm of a diff's trained tensors, taken together.

        Numbers are squared in parts of about the largest one, so that no square is infinite or lost.
        """
        trained = [diff[place] for place in self.trained]
        exponent = math.frexp(max(reach_of(trained), default=0.0))[1]
        scale = math.ldexp(1.0, -max(exponent, -_LEAST_EXPONENT))  # a power of two rounds nothing
        squares = (float(np.sum(np.square(to_float64(tensor) * scale))) for tensor in trained)
        return math.sqrt(sum(squares)) / scale
