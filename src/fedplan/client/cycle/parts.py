"""A cycle's model in two parts: what training changes, and what is frozen, which the grid sends once."""

from fedplan.client.cycle.place import Place
from fedplan.client.model import SyftModel
from fedplan.client.transport.api import GridApi
from fedplan.errors import GridResponseError
from fedplan.plan import to_torch
from fedplan.wire import State


async def whole_model(grid: GridApi, place: Place, downloaded: bytes) -> SyftModel:
    """The model of a cycle, whose frozen part is downloaded unless it is here already.

    Args:
        grid: what sent it.
        place: in the cycle.
        downloaded: the answer to a request for what changes. It is the whole model if nothing of it is
            frozen, or if the grid does not know of parts.

    Raises:
        GridConnectionError: the grid could not be reached.
        GridResponseError: the grid refused, or its two parts do not make a whole.
        WireError: what it sent is not a State.
    """
    changing = State.parse(downloaded)
    if changing.places is None:
        return SyftModel.of(changing)
    whose = (place.model, place.version)
    frozen = State.parse(await grid.get_frozen(place.worker_id, place.request_key, place.model_id, whose))
    places = [*changing.places, *(frozen.places or ())]
    tensors = [*changing.tensors, *frozen.tensors]
    if sorted(places) != list(range(len(tensors))):
        raise GridResponseError("the two parts of the model that the grid sent do not make a whole")
    whole = dict(zip(places, tensors, strict=True))
    return SyftModel([to_torch(whole[place]) for place in range(len(whole))], changing.places)
