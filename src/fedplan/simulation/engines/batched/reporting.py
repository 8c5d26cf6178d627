"""What clients send that were computed side by side: all reports at once, where they are plain ones."""

from collections.abc import Iterator, Sequence

import torch

from fedplan.errors import AggregationError
from fedplan.federation import UpdateBlock, lacking, reach_of
from fedplan.federation.refusals import needs_no_look
from fedplan.plan import from_torch
from fedplan.simulation.engines.batched.group import Sides
from fedplan.simulation.engines.batched.lineup import Lineup
from fedplan.simulation.engines.engine import BlockInbox
from fedplan.simulation.engines.sequential import take
from fedplan.simulation.participation import Participants, Trained, trained_of
from fedplan.simulation.states import NOTHING_REMEMBERED, ClientState
from fedplan.simulation.work import Sent
from fedplan.wire import Summary, WireTensor
from fedplan.wire.summary import summary_size

_FAR = 1e30
"""A diff that reaches so far is looked at by itself."""


def reported(
    participants: Participants,
    lineups: Sequence[Lineup],
    sides: Sides,
    measured: Sequence[Summary | None],
    gathered: BlockInbox,
) -> Iterator[Sent]:
    """Adds the reports of some clients up, in their order, as if each had come by itself.

    Args:
        participants: of whom they are.
        lineups: the clients.
        sides: what they trained.
        measured: what they measured of the model as they received it.
        gathered: takes the reports.
    """
    trained = [
        trained_of(side.params, side.measurements.summary(), evaluation, lineup.epoch)
        for side, evaluation, lineup in zip(sides.each, measured, lineups, strict=True)
    ]
    if _are_added(participants, sides, [one.summary for one in trained], gathered):
        for lineup, one in zip(lineups, trained, strict=True):
            size = participants.experiment.deployment.plain_size + summary_size(one.summary)
            yield Sent(lineup.client, size, _remembered(participants, one))
        return
    for lineup, one in zip(lineups, trained, strict=True):
        yield take(participants.report(lineup.client, lineup.state, one), gathered)


def _remembered(participants: Participants, trained: Trained) -> ClientState:
    private = participants.experiment.deployment.private
    if not private and trained.epoch < 0:
        return NOTHING_REMEMBERED
    return ClientState({place: trained.params[place] for place in private}, (), trained.epoch)


def _are_added(
    participants: Participants, sides: Sides, summaries: Sequence[Summary], gathered: BlockInbox
) -> bool:
    """Adds all reports at once, if they are plain and each of them would surely be taken."""
    experiment, work = participants.experiment, participants.work
    strategy = experiment.deployment.strategy
    is_plain = participants.format is None and not experiment.behaviours and work.manifest is None
    if not is_plain or any(lacking(strategy, summary) for summary in summaries):
        return False
    diff = _diff(participants, sides)
    layout = strategy.setting.changing_layout
    if diff is None or [(one.shape[1:], one.dtype) for one in diff] != list(layout):
        return False
    reach = reach_of(diff)
    if not (all(far < _FAR for far in reach) and needs_no_look(strategy.setting, work.reach, reach)):
        return False  # one of them holds NaN, or values that have to be looked at
    try:
        gathered.add_block(UpdateBlock(diff, summaries, work.staleness))
    except AggregationError:
        return False
    return True


def _diff(participants: Participants, sides: Sides) -> list[WireTensor] | None:
    """All diffs, (clients, …), of what a report holds; None where that is not to be had at once."""
    deployment, model = participants.experiment.deployment, participants.work.model
    places = range(len(model.params)) if model.changing is None else model.changing
    if not sides.stacks or not all(tensor.is_floating_point() for tensor in model.params):
        return None
    trained = {place for place, stack in enumerate(sides.stacks) if stack is not None}
    if not trained.issubset({*places, *deployment.private}):
        return None
    found = []
    for place in places:
        before, after = model.params[place], sides.stacks[place]
        if place in deployment.private:
            return None
        after = before.expand(len(sides.each), *before.shape) if after is None else after
        with torch.no_grad():
            found.append(from_torch(before - after))
    return found
