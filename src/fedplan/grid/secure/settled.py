"""What is settled of a secure round, remembered: it follows from the store, and does not change."""

import asyncio
from collections.abc import Mapping

from fedplan.federation import SHARES
from fedplan.federation.secure import RosterMember, Terms, deliveries
from fedplan.grid.grid import Grid
from fedplan.grid.secure import queries
from fedplan.grid.secure.memory import Settled

_WORKER_BYTES, _NEIGHBOUR_BYTES = 1000, 250
"""About what a round takes in memory, for each worker and for each of its neighbours."""


async def settled(grid: Grid, cycle_id: int) -> Settled | None:
    """What is settled of a round; None before it is settled who is in it."""
    found = grid.secure.get(cycle_id)
    if found is not None:
        return found
    async with grid.store.reading() as db:
        said = await queries.said(db, cycle_id)
        keys = await queries.keys_of_roster(db, cycle_id)
    if said.announcement is None:
        return None
    made = await asyncio.to_thread(_settled, said.announcement, keys)
    given = made.terms.parameters
    grid.secure.put(cycle_id, made, given.workers * (_WORKER_BYTES + given.degree * _NEIGHBOUR_BYTES))
    return made


async def with_shares(grid: Grid, cycle_id: int, found: Settled) -> Settled:
    """The same with who has shared, once the stage of shares has ended.

    Raises:
        SecureRoundError: too few have.
    """
    async with found.making:
        if found.shared is None:
            async with grid.store.reading() as db:
                messages = await queries.messages_of(db, cycle_id, SHARES)
            shared = {found.number(place): message for place, message in messages.items()}
            found.deliveries = await asyncio.to_thread(deliveries, found.terms, shared)
            found.shared = shared
    return found


def _settled(announcement: bytes, keys: Mapping[int, bytes]) -> Settled:
    terms = Terms.parse(announcement)
    places = {RosterMember.parse(message).mask_key: place for place, message in keys.items()}
    members = {member.mask_key: number for number, member in enumerate(terms.roster)}
    return Settled(terms, {places[key]: number for key, number in members.items() if key in places})
