"""How a job comes back into the cycle of a checkpoint."""

import contextlib
from collections.abc import Iterator

from fedplan.client.cycle.place import Place
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint, check_checkpoint
from fedplan.errors import CheckpointError, GridResponseError

_DENIED = 403
"""How a grid answers a request key that opens nothing any more."""


def place_of(checkpoint: PlanTrainerCheckpoint, model_name: str, model_version: str) -> Place:
    """The place in a cycle in which a checkpoint was made.

    Raises:
        CheckpointError: it was made in none, or in one of another model.
    """
    check_checkpoint(checkpoint)
    place = checkpoint.place
    if place is None:
        raise CheckpointError(
            "the checkpoint does not say in which cycle it was made: it is of a browser, or of a PlanTrainer "
            "without a job. Start the job, and train with the checkpoint"
        )
    if (place.model, place.version) != (str(model_name), str(model_version)):
        raise CheckpointError(
            f"the checkpoint is of a training in {place}, and the job is of '{model_name}' {model_version}: "
            "make one for that model with syft.new_job"
        )
    return place


@contextlib.contextmanager
def cycle_may_be_over(place: Place) -> Iterator[None]:
    """Says what it means when the grid lets nobody into a place any more.

    Raises:
        CheckpointError: it does not.
    """
    try:
        yield
    except GridResponseError as error:
        if error.status != _DENIED:
            raise
        raise CheckpointError(
            f"the training in {place} cannot be gone on with ({error}). Start the job for the present cycle, "
            "and train anew"
        ) from error
