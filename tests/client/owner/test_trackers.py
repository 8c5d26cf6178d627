"""A model's history in TensorBoard and in MLflow, read back with their own readers."""

import datetime
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from fedplan.client.owner.history import History
from fedplan.errors import ConfigError
from fedplan.wire.messages import HistoryReply, HistoryRow, MetricStatus

CLOSED = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def row(cycle: int, **metrics: float) -> HistoryRow:
    return HistoryRow(
        cycle=cycle,
        checkpoint=cycle,
        phase="done",
        opened_at=CLOSED,
        closed_at=CLOSED + datetime.timedelta(minutes=cycle),
        workers=3,
        reports=2,
        samples=40.0,
        metrics={name: MetricStatus(value=value, weight=40.0, workers=2) for name, value in metrics.items()},
    )


HISTORY = History(HistoryReply(rows=[row(1, loss=2.5, training_loss=2.0), row(2, loss=1.5)]))


def test_tensorboard_has_each_metric_over_the_cycles(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    HISTORY.to_tensorboard(tmp_path)
    found = EventAccumulator(str(tmp_path))
    found.Reload()

    def scalars(name: str) -> list[tuple[int, float]]:
        return [(event.step, float(make_ndarray(event.tensor_proto))) for event in found.Tensors(name)]

    assert scalars("loss") == [(1, 2.5), (2, 1.5)]
    assert scalars("training_loss") == [(1, 2.0)]
    assert scalars("reports") == [(1, 2.0), (2, 2.0)]
    assert found.Tensors("loss")[0].wall_time == (CLOSED + datetime.timedelta(minutes=1)).timestamp()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own parts
def test_mlflow_has_a_run_of_each_history(tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = HISTORY.to_mlflow("federated", run_name="first", tracking_uri=uri)
    assert HISTORY.to_mlflow("federated", tracking_uri=uri) != run
    client = mlflow.MlflowClient(uri)
    assert client.get_run(run).info.run_name == "first"
    assert client.get_run(run).info.status == "FINISHED"
    assert [(metric.step, metric.value) for metric in client.get_metric_history(run, "loss")] == [
        (1, 2.5),
        (2, 1.5),
    ]
    assert client.get_run(run).data.metrics["samples"] == 40.0


@pytest.mark.parametrize(("library", "extra"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_who_lacks_the_library_is_told_the_extra(library: str, extra: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    with pytest.raises(ConfigError, match=rf"pip install 'fedplan\[{extra}\]'"):
        HISTORY.to_tensorboard(tmp_path) if library == "tensorboard" else HISTORY.to_mlflow("e")
