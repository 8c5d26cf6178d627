"""A client's part in a cycle: it measures the model, trains it, and reports, with the code of a worker."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch.utils.data
from torch import Tensor

from fedplan.client.model import SyftModel
from fedplan.client.training.batches import generators_of
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.compression import DiffCompressor, negotiate
from fedplan.client.training.measurements import told_of_evaluation, told_of_training
from fedplan.client.training.training import Training
from fedplan.data import DataLoader
from fedplan.errors import ConfigError, DiffRefusedError, FedplanError, SecureAggregationError
from fedplan.federation import Update
from fedplan.federation.refusals import check_change, check_fit, check_sum, check_told, needs_no_look
from fedplan.federation.secure import Manifest
from fedplan.federation.secure.cycles import report_bytes
from fedplan.federation.stored import read_stored
from fedplan.plan import RandomStream, from_torch
from fedplan.plan.roles import averaged_tensors
from fedplan.simulation.behaviour import Behaviour, Noise
from fedplan.simulation.chance import Purpose
from fedplan.simulation.population import is_dataset
from fedplan.simulation.secure.reporting import whole_update
from fedplan.simulation.states import ClientState
from fedplan.simulation.work import Report, Work
from fedplan.wire import State, Summary, with_summary
from fedplan.wire.summary import summary_size


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """What came of a client's training.

    Attributes:
        params: the trained model, all of its tensors.
        summary: what the client tells beside its diff.
        epoch: see `ClientState`.
    """

    params: Sequence[Tensor]
    summary: Summary
    epoch: int = -1


def trained_of(params: Sequence[Tensor], summary: Summary, measured: Summary | None, epoch: int) -> Trained:
    """What came of a training.

    Args:
        params: the trained model, all of its tensors.
        summary: what may be told of the training.
        measured: what is told of the model as it was received.
        epoch: see `ClientState`.
    """
    return Trained(params, told_of_training(summary, measured), epoch)


class Participants:
    """The clients that do one piece of work, one after the other.

    Args:
        work: their task, and the model that they receive.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.experiment = work.experiment
        deployment = self.experiment.deployment
        config = deployment.config_at(work.cycle)
        batch_size, device = config.get("batch_size"), self.experiment.device
        self.batch_size = batch_size
        self.format = negotiate(config, self.experiment.report_format)
        self.training = Training.of(
            deployment.plans[deployment.training],
            config,
            epochs=config.get("max_epochs") or 1,
            steps_per_epoch=config.get("max_updates"),
            batch_size=batch_size,
            device=device,
        )
        self.evaluation = None
        if deployment.evaluation is not None:
            self.evaluation = Training.of(deployment.evaluation, config, batch_size=batch_size, device=device)

    def report_of(self, client: int) -> Report:
        """A client's report of its training.

        Raises:
            FedplanError: the client's data cannot be used, or the Plan failed; says which client.
        """
        state = self.work.state_of(client)
        return self.report(client, state, self.train(client, state))

    def train(self, client: int, state: ClientState) -> Trained:
        """Measures the model on a client's data, if there is a Plan for that, and trains it.

        Raises:
            FedplanError: see `report_of`.
        """
        with about_client(client), self.data(client, state) as (data, target):
            measured = self._measured(client, state, data, target)
            trained_on = self.trained_on(client, target)
            step = self.training.run(self.model_of(state), data, trained_on, self.random(client))
            params = [param.cpu() for param in step.params]
            return trained_of(params, step.summary, measured, epoch_of(data))

    def measurement_of(self, client: int) -> tuple[Summary, ClientState]:
        """What a client measures that does not train, and what it remembers afterwards.

        Raises:
            FedplanError: see `report_of`.
        """
        state = self.work.state_of(client)
        with about_client(client), self.data(client, state) as (data, target):
            measured = self._measured(client, state, data, target)
            if measured is None:
                raise ConfigError("there is no Plan to measure with")
            return measured, dataclasses.replace(state, epoch=epoch_of(data))

    def report(self, client: int, state: ClientState, trained: Trained) -> Report:
        """What a grid receives of a training, and whether it takes it.

        Args:
            client: its number.
            state: what it remembered before.
            trained: what it trained.
        """
        deployment = self.experiment.deployment
        setting = deployment.strategy.setting
        diff = self._behaved(client, self.model_of(state).diff(trained.params))
        if self.work.manifest is not None:
            return self._whole_report(self.work.manifest, client, state, trained, diff)
        data, lost = self._written(diff, state)
        after = ClientState(
            {place: trained.params[place] for place in deployment.private}, lost, trained.epoch
        )
        if data is None:
            update = Update(tuple(map(from_torch, diff.changes())), trained.summary, self.work.staleness)
            size = self._plain_size(diff) + summary_size(trained.summary)
        else:
            sent = with_summary(data, trained.summary)
            update, size = read_stored(sent, setting.changing_layout, self.work.staleness), len(sent)
        try:
            check_told(deployment.strategy, update.summary)
            reach = check_fit(update.tensors, setting.changing_layout)
            check_sum(deployment.strategy, update)
            if not needs_no_look(setting, self.work.reach, reach):
                check_change(setting, self.work.changing, update.tensors)
        except DiffRefusedError as refusal:
            return Report(client, None, size, state, str(refusal))
        return Report(client, update, size, after)

    def _whole_report(
        self, manifest: Manifest, client: int, state: ClientState, trained: Trained, diff: SyftModel
    ) -> Report:
        """What a client reports in a secure round, before it is masked."""
        key = self.experiment.chance.rounding_key(client, self.work.cycle)
        try:
            update, lost = whole_update(manifest, client, diff, trained.summary, state.lost, key)
        except SecureAggregationError as refusal:  # its worker leaves the round
            return Report(client, None, 0, state, str(refusal))
        private = {place: trained.params[place] for place in self.experiment.deployment.private}
        return Report(client, update, report_bytes(manifest), ClientState(private, lost, trained.epoch))

    def _measured(self, client: int, state: ClientState, data: Any, target: Any) -> Summary | None:
        """What the evaluation Plan measures of the model as it was received."""
        if self.evaluation is None:
            return None
        step = self.evaluation.run(self.model_of(state), data, target, self.random(client))
        return told_of_evaluation(step.measurements.summary())

    def model_of(self, state: ClientState) -> SyftModel:
        """The model as a client received it, with its own tensors in it."""
        private = self.experiment.deployment.private
        return self.work.model.with_private(state.private, private) if private else self.work.model

    def random(self, client: int) -> RandomState:
        """Where a client's random inputs begin."""
        seed = self.experiment.chance.client_seed(client)
        return RandomState(RandomStream(seed), self.work.cycle, 0)

    @contextlib.contextmanager
    def data(self, client: int, state: ClientState) -> Iterator[tuple[Any, Any]]:
        """A client's data and targets, as they are.

        Within the block torch's global generator is the client's own, if the data may draw from it.

        Args:
            client: its number.
            state: what it remembers.

        Raises:
            DataError: the data cannot be used.
        """
        population, chance = self.experiment.population, self.experiment.chance
        with contextlib.ExitStack() as stack:
            seed = stack.enter_context(chance.of_torch(client, self.work.cycle)) if population.made else None
            data, target = population.data(client)
            if is_dataset(data) and not isinstance(data, DataLoader | torch.utils.data.DataLoader):
                data = self._loader(client, data)
            if isinstance(data, DataLoader):
                data.restore({**data.state(), "epoch": state.epoch})
            if isinstance(data, DataLoader | torch.utils.data.DataLoader) and seed is None:
                seed = stack.enter_context(chance.of_torch(client, self.work.cycle))
            if isinstance(data, torch.utils.data.DataLoader):
                for generator in generators_of(data):
                    generator.manual_seed(seed or 0)
            yield data, target

    def trained_on(self, client: int, target: Any) -> Any:
        """The targets with which a client trains, which may be others than those that it has.

        Raises:
            DataError: they cannot be changed as its behaviour says.
        """
        for behaviour in self._behaviours(client):
            target = behaviour.targets(target)
        return target

    def _loader(self, client: int, data: Any) -> DataLoader:
        if self.batch_size is None:
            raise ConfigError(
                "there is no batch size for a data set: put batch_size into the client_config, or give a "
                "DataLoader for each client"
            )
        seed = self.experiment.chance.number(Purpose.LOADER, client=client)
        return DataLoader(data, self.batch_size, seed=seed)

    def _behaviours(self, client: int) -> Iterator[Behaviour]:
        chance = self.experiment.chance
        for number, behaviour in enumerate(self.experiment.behaviours):
            if behaviour.concerns(chance, client, number):
                yield behaviour

    def _behaved(self, client: int, diff: SyftModel) -> SyftModel:
        """The diff that a client says to have."""
        for behaviour in self._behaviours(client):
            noise = Noise(self.experiment.chance.stream, client, self.work.cycle)
            params = list(diff.params)
            places = diff.changing or range(len(params))
            for place, tensor in zip(places, behaviour.diff(diff.changes(), noise), strict=True):
                params[place] = tensor
            diff = SyftModel(params, diff.changing, diff.private)
        return diff

    def _written(self, diff: SyftModel, state: ClientState) -> tuple[bytes | None, Sequence[Tensor]]:
        """A report in a smaller format, and what it lost; None for a plain one, whose bytes nobody reads."""
        if self.format is None:
            return None, ()
        compressor = DiffCompressor(self.format, kept=state.lost)
        data = compressor.compress(diff, self._averaged)
        compressor.sent()
        return data, compressor.kept

    def _plain_size(self, diff: SyftModel) -> int:
        """Bytes of a plain report without its summary. Those of floats do not depend on their values."""
        if all(tensor.is_floating_point() for tensor in diff.params):
            return self.experiment.deployment.plain_size
        return len(State.of(map(from_torch, diff.changes()), diff.changing).serialize())

    @functools.cached_property
    def _averaged(self) -> tuple[int, ...]:
        """The model's running statistics, which no format makes smaller."""
        return averaged_tensors(self.experiment.deployment.plans.values(), len(self.work.model.params))


def epoch_of(data: Any) -> int:
    """What `ClientState` remembers of data that was gone through."""
    return data.epoch if isinstance(data, DataLoader) else -1


@contextlib.contextmanager
def about_client(client: int) -> Iterator[None]:
    """Says in whose training something went wrong."""
    try:
        yield
    except FedplanError as error:
        error.args = (f"client {client}: {error}", *error.args[1:])
        raise
