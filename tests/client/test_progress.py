"""What a worker's terminal shows of its cycles."""

from fedplan.client.progress import TrainingProgress
from tests.client.training_cases import make_trainer


async def test_the_newest_cycle_is_shown_and_no_other() -> None:
    with TrainingProgress(show=True) as progress:
        for cycle in range(1, 4):
            training = make_trainer()
            progress.follow(training, cycle)
            await training.start()
            (task,) = progress._bars.tasks
            assert (task.description, task.completed, task.total) == (f"cycle {cycle}", 7, 7)
            assert task.fields["note"].startswith("loss ")


async def test_who_sees_nothing_hears_of_no_batch() -> None:
    with TrainingProgress(show=False) as progress:
        training = make_trainer()
        progress.follow(training, 1)
        assert not training._events["batch_end"]
