"""ModelCentricFLClient: hosting a model, watching its cycles, fetching its checkpoints."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fedplan.client.counts import positive_integer, positive_seconds
from fedplan.client.loops.blocking import blocking_twin
from fedplan.client.model import SyftModel
from fedplan.client.owner.control import ModelControl
from fedplan.client.owner.history import History
from fedplan.client.owner.hosting import check_is_plan, named_messages, plans_of, state_of, variants_of
from fedplan.client.owner.naming import tensor_names
from fedplan.client.owner.observing import GridObserver
from fedplan.client.owner.pygrid import hosting_of
from fedplan.client.owner.waiting import wait_for
from fedplan.client.plain import plain_config
from fedplan.client.syft import ANSWER_SECONDS
from fedplan.client.transport.answers import shown
from fedplan.client.transport.api import GridApi, message_of
from fedplan.client.transport.connection import show_log, wants
from fedplan.client.transport.exchange import DEFAULT_RETRY, Retry
from fedplan.client.transport.url import GridUrl
from fedplan.errors import ConfigError, GridResponseError
from fedplan.federation.hosting import check_plan
from fedplan.federation.schedule import check_schedules, config_at
from fedplan.plan import Plan, to_torch
from fedplan.plan.roles import check_evaluation, check_private
from fedplan.plan.variants.make import with_variants
from fedplan.wire import State, schema
from fedplan.wire.config import parse_client_config, parse_server_config
from fedplan.wire.messages import (
    EVALUATION_PLAN,
    RETRIEVE_MODEL,
    RETRIEVE_PLAN,
    HostTrainingRequest,
    ModelStatus,
    StatusReply,
)


class ModelCentricFLClient(ModelControl, GridObserver):
    """The model owner's client, with the names of PySyft.

    Its calls block; each has a coroutine form with `_async` at the end of its name. ::

        with ModelCentricFLClient("https://grid.example", token=token) as grid:
            grid.host_federated_training(
                model, {"training_plan": plan}, client_config={"name": "mnist", "version": "1.0.0", …},
                server_config={"min_diffs": 8, "num_cycles": 10},
            )
            grid.wait("mnist", "1.0.0", finished=True, timeout=3600)
            grid.retrieve_model("mnist", "1.0.0").load_into(model)
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        verbose: bool = False,
        log: bool | None = None,
        allow_plain_text: bool | None = None,
        app: Any = None,
        timeout: float = 2 * ANSWER_SECONDS,
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        """Makes a client; nothing is opened yet.

        All calls go over HTTP, also when the URL is ws:// or wss://, but for hosting at a PyGrid node.

        Args:
            url: full URL of the grid.
            token: what the grid asks model owners for; sent as `Authorization: Bearer`.
            verbose: both of the next two.
            log: log what happens; by default what `verbose` says.
            allow_plain_text: allow a token to be sent over a connection that is not encrypted to another
                machine; by default what `verbose` says.
            app: an ASGI app to call in this process; see `Syft`.
            timeout: seconds to wait for an answer.
            retry: how calls that failed, and can be repeated without harm, are repeated.

        Raises:
            InsecureUrlError: a token would be sent unencrypted to another machine, and that is not allowed.
            ConfigError: it is no URL of a grid.
        """
        grid_url = GridUrl.parse(url)
        logs, plain = wants(verbose, log, allow_plain_text)
        if logs:
            show_log()
        if not plain and token is not None and app is None:
            grid_url.check_secure()
        self.url = url
        super().__init__(
            GridApi.connect(grid_url, timeout=timeout, retry=retry, token=token, app=app, websocket=False)
        )

    async def host_federated_training_async(
        self,
        model: Sequence[Tensor] | nn.Module | Mapping[str, Tensor] | SyftModel | State,
        client_plans: Mapping[str, Plan],
        client_config: Mapping[str, Any],
        server_config: Mapping[str, Any],
        server_averaging_plan: Plan | None = None,
        client_protocols: Mapping[str, schema.Protocol] | None = None,
        variants: Collection[str] | None = None,
    ) -> None:
        """Hosts a model with its Plans. The first cycle begins at once.

        What can be checked here is checked before anything is sent: the configs key by key, that the Plans,
        where they say what their inputs are, can train the model and find all that they take in the
        client_config, and that what browsers and phones would run in their place computes the same (see
        `with_variants`). A PyGrid node is recognised by its answers; what it and its PySyft cannot read or do
        is then found too (docs/legacy.md).

        Args:
            model: an `nn.Module` (its parameters, then its floating-point buffers, are hosted), its
                `state_dict` (the client_plans name their tensors, and so say the order), a list of tensors,
                a SyftModel (what `retrieve_model` gives) or a State.
            client_plans: what workers run, by name; `training_plan` is the usual name. One of the name
                `evaluation_plan` measures the model as workers receive it, on their data.
            client_config: what workers are told; `name` and `version` name the FL process, and every key that
                a Plan takes must be there. Numbers may be NumPy's, or tensors of one element, or schedules
                over the cycles, such as ``{"schedule": "cosine", "start": 0.1, "cycles": 100}``.
            server_config: how the grid runs the cycles.
            server_averaging_plan: how the grid averages; the mean by default.
            client_protocols: Protocols by name, which workers get and nothing runs. The name
                "secure_aggregation" is that of the grid's own, which the server_config asks for.
            variants: what the client_plans must be hosted as besides their op lists, of ``torchscript``
                (phones) and ``tfjs`` (browsers); ``()`` for Python workers alone. By default all that can be
                had. The grid takes no clients that could not run what is hosted.

        Raises:
            ConfigError: a config is wrong, or lacks what a Plan takes; the message names the keys. Or another
                argument is nothing that can be hosted.
            PlanError: a Plan cannot train this model, cannot be had in one of the variants, or computes
                something else in one.
            GridResponseError: the grid refused; its own words are in the message.
            GridConnectionError: the grid could not be reached.
        """
        client, server = (
            plain_config(config, name)
            for config, name in ((client_config, "client_config"), (server_config, "server_config"))
        )
        first = config_at(client, 1)
        parse_client_config(first)
        check_schedules(client, parse_server_config(server).num_cycles)
        plans = plans_of(client_plans)
        state = state_of(model, plans)
        protocols = named_messages(client_protocols, schema.Protocol, "client_protocols")
        if server_averaging_plan is not None:
            check_is_plan(server_averaging_plan, "server_averaging_plan")
        wanted = variants_of(variants)
        layout = tuple((tensor.shape, tensor.dtype) for tensor in state.tensors)
        for plan in plans.values():
            check_plan(plan, layout, first)
        check_private(plans)
        check_evaluation(plans, EVALUATION_PLAN)
        parameters = [to_torch(tensor) for tensor in state.tensors]
        hosted = {
            name: plan  # only this project's workers evaluate
            if name == EVALUATION_PLAN
            else await asyncio.to_thread(with_variants, plan, parameters, wanted)
            for name, plan in plans.items()
        }
        if await self._grid.is_pygrid(str(first["name"])):
            request = hosting_of(
                state.serialize().hex(),
                hosted,
                client,
                server,
                averaging_plan=server_averaging_plan is not None,
                protocols=bool(protocols),
                variants=wanted,
            )
            await self._grid.host_training(request, over_socket=True)
            return
        request = message_of(
            HostTrainingRequest,
            model=state.serialize().hex(),
            plans={name: plan.serialize().hex() for name, plan in hosted.items()},
            protocols={name: protocol.encode().hex() for name, protocol in protocols.items()},
            averaging_plan=server_averaging_plan.serialize().hex() if server_averaging_plan else None,
            client_config=client,
            server_config=server,
        )
        await self._grid.host_training(request)

    async def retrieve_model_async(
        self, name: str, version: str, checkpoint: int | str = "latest"
    ) -> SyftModel:
        """Fetches a checkpoint of a hosted model.

        Args:
            name: name of the FL process.
            version: its version.
            checkpoint: its number, 1 being the model as it was hosted; or `latest`; or `best`, which is the
                best one by the metric that the server_config's ``best`` names.

        Returns:
            The model; `load_into` copies it into an `nn.Module`.

        Raises:
            GridResponseError: there is no such model or checkpoint.
            GridConnectionError: the grid could not be reached.
        """
        data = await self._grid.retrieve(RETRIEVE_MODEL, name, version, checkpoint=checkpoint)
        return SyftModel.parse(data)

    async def retrieve_plan_async(self, name: str, version: str, plan: str = "training_plan") -> Plan:
        """Fetches a Plan of a hosted model, as its workers get it: the list of its operations.

        Args:
            name: name of the FL process.
            version: its version.
            plan: name of the Plan.

        Raises:
            GridResponseError: there is no such model or Plan; the grid refused, or knows no such call, as a
                PyGrid node.
            GridConnectionError: the grid could not be reached.
        """
        return Plan.parse(await self._grid.retrieve(RETRIEVE_PLAN, name, version, plan=plan))

    async def retrieve_state_dict_async(
        self, name: str, version: str, checkpoint: int | str = "latest"
    ) -> dict[str, Tensor]:
        """Fetches a checkpoint with the names of its tensors, as the model's Plans have them.

        For a Plan of `training_plan` these are the names of the module's parameters and buffers. A tensor
        that a module has under two names is there once, and counters that batch norms do not use are not
        there, so ``module.load_state_dict(…, strict=False)`` takes it; `SyftModel.load_into` checks more.

        Args:
            name: name of the FL process.
            version: its version.
            checkpoint: see `retrieve_model`.

        Returns:
            The tensors by name, in the order in which they are hosted.

        Raises:
            ConfigError: no Plan of the model names its tensors, as those that PySyft made.
            GridResponseError: see `retrieve_plan` and `retrieve_model`.
            GridConnectionError: the grid could not be reached.
        """
        model = await self.retrieve_model_async(name, version, checkpoint)
        told = await self._status_of(name, version)
        plans = [await self.retrieve_plan_async(name, version, plan.name) for plan in told.plans]
        names = tensor_names(plans, len(model.params))
        if names is None:
            raise ConfigError(
                f"no Plan of the model '{name}' {version} names its tensors, so there are only their places: "
                "retrieve_model has them in order"
            )
        return dict(zip(names, model.params, strict=True))

    async def status_async(self, name: str | None = None) -> StatusReply:
        """Asks how the hosted models are doing.

        Args:
            name: only models of this name; all by default.

        Raises:
            GridResponseError: the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        return await self._grid.status(name)

    async def history_async(self, name: str, version: str) -> History:
        """Asks what came of a model's cycles: workers, reports, samples and metrics of each that has ended.

        Args:
            name: name of the FL process.
            version: its version.

        Raises:
            GridResponseError: there is no such model, or the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        return History(await self._grid.history(name, version))

    async def evaluate_async(self, name: str, version: str) -> int:
        """Has workers measure the newest checkpoint of a model whose training is finished.

        The grid opens a cycle of evaluation, unless one is open: after the last cycle it opens one by itself.
        `wait` with ``evaluated=True`` waits for its end; its metrics are in `history`.

        Args:
            name: name of the FL process.
            version: its version.

        Returns:
            The number of the cycle.

        Raises:
            GridResponseError: there is no such model; it has no evaluation Plan; it is still trained, and its
                workers measure it as they train; or the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        return (await self._grid.evaluate(name, version)).cycle

    async def wait_async(
        self,
        name: str,
        version: str,
        *,
        checkpoint: int | None = None,
        finished: bool = False,
        evaluated: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  # it is part of what is waited for: see the error
    ) -> ModelStatus:
        """Waits until a hosted model has come so far.

        A worker is done when the grid has its report; the reports are averaged into the next checkpoint
        afterwards. ::

            grid.wait("mnist", "1.0.0", checkpoint=2)   # until the first cycle is averaged
            grid.wait("mnist", "1.0.0", finished=True)  # until the last one is
            grid.wait("mnist", "1.0.0", timeout=60)     # for the checkpoint after the newest one

        Name the checkpoint where it may be there already, as after `participate`: without, one that comes
        just before the call is not counted.

        Args:
            name: name of the FL process.
            version: its version.
            checkpoint: the number of a checkpoint, 1 being the model as it was hosted. It returns at once
                when that one or a later one is there.
            finished: wait until all of the model's cycles of training are closed.
            evaluated: wait until the last checkpoint is measured too, or the time for that is over; see
                `evaluate`.
            timeout: seconds to wait at most; without end by default. 0 looks once. A grid that is away
                meanwhile is waited for, up to five minutes.

        Returns:
            How the model is doing then: `checkpoints[0].number` is its newest checkpoint. Without
            `checkpoint` and `finished` it returns at once when the training is finished, for nothing more
            will come.

        Raises:
            WaitTimeoutError: it was not there in time; says how many reports the cycle has and needs, and
                what closes it.
            CycleFailedError: a cycle failed while this waited, or before, with no worker in a later one yet;
                or the training is over and the checkpoint was never made. Says why.
            ConfigError: it can never be there, or an argument is wrong.
            GridResponseError: the grid hosts no such model, or refused.
            GridConnectionError: the grid could not be reached.
        """
        if checkpoint is not None:
            checkpoint = positive_integer(checkpoint, "checkpoint")
        if (checkpoint is not None) + finished + evaluated > 1:
            raise ConfigError("wait for one thing: a checkpoint, or finished, or evaluated")
        if timeout is not None and timeout != 0:
            timeout = positive_seconds(timeout, "timeout")

        async def look() -> ModelStatus:
            return await self._status_of(name, version)

        return await wait_for(
            look, checkpoint=checkpoint, finished=finished, evaluated=evaluated, timeout=timeout
        )

    async def _status_of(self, name: str, version: str) -> ModelStatus:
        """One version of a model.

        Raises:
            GridResponseError: there is none.
        """
        models = (await self._grid.status(name)).models
        for model in models:
            if (model.name, model.version) == (name, str(version)):
                return model
        hosted = ", ".join(f"'{shown(model.version)}'" for model in models) or "none"
        raise GridResponseError(
            f"this grid hosts no model '{name}' version '{version}'; its versions are: {hosted}", status=404
        )

    host_federated_training = blocking_twin(host_federated_training_async)
    retrieve_model = blocking_twin(retrieve_model_async)
    retrieve_plan = blocking_twin(retrieve_plan_async)
    retrieve_state_dict = blocking_twin(retrieve_state_dict_async)
    status = blocking_twin(status_async)
    history = blocking_twin(history_async)
    evaluate = blocking_twin(evaluate_async)
    wait = blocking_twin(wait_async)
