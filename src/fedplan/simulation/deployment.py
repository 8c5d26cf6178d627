"""What is simulated: a model, its Plans and its two configurations, as a grid would host them."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fedplan.client.model import SyftModel
from fedplan.client.owner.hosting import check_is_plan, plans_of, state_of
from fedplan.client.plain import plain_config
from fedplan.errors import ConfigError
from fedplan.federation import Strategy, Tensors, part_of
from fedplan.federation.hosting import about_part, check_name, check_plan, checked_model, strategy_to_host
from fedplan.federation.schedule import config_at
from fedplan.plan import Plan, to_torch
from fedplan.plan.roles import private_tensors
from fedplan.wire import State
from fedplan.wire.config import ServerConfig, parse_client_config, parse_server_config
from fedplan.wire.messages import EVALUATION_PLAN


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A model that passed all checks of hosting.

    Attributes:
        name: of the FL process.
        version: its version.
        plans: what clients run, by name, read from the bytes that a grid would send them.
        training: name of the Plan that trains.
        client_config: as the model's owner wrote it.
        strategy: how reports change the model.
        model: before the first cycle: all of its tensors.
        private: the tensors that each client keeps for itself, by their places.
        hosting: the arguments with which its owner's client would host it.
        identity: a digest of all this; another deployment has another one.
    """

    name: str
    version: str
    plans: Mapping[str, Plan]
    training: str
    client_config: Mapping[str, Any]
    strategy: Strategy
    model: State
    private: tuple[int, ...]
    hosting: Mapping[str, Any]
    identity: str

    @property
    def server_config(self) -> ServerConfig:
        """How cycles run."""
        return self.strategy.setting.server

    @property
    def evaluation(self) -> Plan | None:
        """The Plan that measures the model, if there is one."""
        return self.plans.get(EVALUATION_PLAN)

    @property
    def start(self) -> Tensors:
        """What changes of the model, before the first cycle."""
        return part_of(self.model.tensors, self.strategy.setting.changing)

    def config_at(self, cycle: int) -> dict[str, Any]:
        """What clients of a cycle are told."""
        return self.strategy.setting.told_at(cycle)

    def whole(self, changing: Tensors) -> SyftModel:
        """The model that clients receive.

        Args:
            changing: what changes of it.
        """
        places = self.strategy.setting.changing
        params = list(self._params)
        for place, tensor in zip(places or range(len(params)), changing, strict=True):
            params[place] = to_torch(tensor)
        return SyftModel(params, places)

    @functools.cached_property
    def plain_size(self) -> int:
        """Bytes of a plain report of this model without its summary, if all tensors are floats."""
        places = self.strategy.setting.changing
        return len(State.of(self.start, places).serialize())

    @functools.cached_property
    def _params(self) -> Sequence[Tensor]:
        return [to_torch(tensor) for tensor in self.model.tensors]


def deploy(
    model: Any,
    plans: Any,
    client_config: Any,
    server_config: Any,
    averaging_plan: Plan | None = None,
    training: str = "training_plan",
) -> Deployment:
    """Checks a model as its owner's client and a grid do.

    Args:
        model: see `ModelCentricFLClient.host_federated_training`, like the next four.
        plans: what clients run, by name.
        client_config: what they are told.
        server_config: how cycles run.
        averaging_plan: how reports are averaged.
        training: name of the Plan that trains.

    Raises:
        ConfigError: a configuration is wrong, or an argument is nothing that can be hosted.
        HostingError: the model or a Plan cannot be hosted.
    """
    client = plain_config(client_config, "client_config")
    server = plain_config(server_config, "server_config")
    first = config_at(client, 1)
    told = parse_client_config(first)
    settled = parse_server_config(server)
    given = plans_of(plans)
    if averaging_plan is not None:
        check_is_plan(averaging_plan, "server_averaging_plan")
    with about_part("model"):
        state, layout = checked_model(state_of(model, given))
    read = {}
    for name, plan in given.items():
        with about_part(f"Plan '{name}'"):
            check_name(name)
            read[name] = Plan.parse(plan.serialize())
            check_plan(read[name], layout, first)
    if settled.over_selection is not None:
        raise ConfigError(
            "server_config: 'over_selection' is not simulated yet: leave it out here, and pass a cohort "
            "larger than max_diffs"
        )
    strategy = strategy_to_host(read, layout, client, settled, averaging_plan)
    _check_training(read, training)
    told_all = [told.name, told.version, training, client, server]
    hashed = hashlib.sha256(json.dumps(told_all, sort_keys=True).encode())
    hashed.update(state.serialize())
    for name in sorted(read):
        hashed.update(name.encode() + read[name].serialize())
    if averaging_plan is not None:
        hashed.update(averaging_plan.serialize())
    private = private_tensors(read.values())
    hosting = {
        "model": SyftModel.of(state),
        "client_plans": given,
        "client_config": dict(client_config),
        "server_config": dict(server_config),
        **({} if averaging_plan is None else {"server_averaging_plan": averaging_plan}),
        **({"variants": ()} if private else {}),  # other clients would report what is private
    }
    return Deployment(
        told.name, told.version, read, training, client, strategy, state, private, hosting, hashed.hexdigest()
    )


def _check_training(plans: Mapping[str, Plan], name: str) -> None:
    """Checks that there is a Plan to train with, which says what its inputs and outputs stand for.

    Raises:
        ConfigError: there is none.
    """
    if name not in plans or name == EVALUATION_PLAN:
        known = ", ".join(f"'{plan}'" for plan in plans if plan != EVALUATION_PLAN) or "none"
        raise ConfigError(
            f"there is no training Plan '{name}'; the Plans are: {known}. plan=… says which one trains"
        )
    if plans[name].input_specs is None or plans[name].output_specs is None:
        raise ConfigError(
            f"the Plan '{name}' does not say what its inputs and outputs stand for, so nobody can train with "
            "it here: make it with `training_plan`, or trace it with `inputs` and `outputs`"
        )
