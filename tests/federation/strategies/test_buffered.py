"""FedBuff: what counts of a report that comes late."""

import pytest

from fedplan.federation import Update
from fedplan.federation.update import UpdateBlock
from fedplan.wire import MetricMean, Summary, WireTensor
from tests.federation.made import random_diffs, strategy


@pytest.mark.parametrize("in_a_block", [False, True])
def test_what_a_late_report_measured_of_an_earlier_checkpoint_is_left_out(in_a_block):
    made = strategy("fedbuff", k=2)
    total, diff = made.nothing(), random_diffs(1)[0]
    for staleness, accuracy in ((1, 0.9), (0, 0.2)):
        told = Summary(1.0, 1, {"loss": MetricMean(accuracy, 1.0)}, {"accuracy": MetricMean(accuracy, 1.0)})
        if in_a_block:
            rows = tuple(WireTensor(tensor.array[None], tensor.dtype) for tensor in diff)
            block = UpdateBlock(rows, [told], staleness)
            total.add_block(block, [made.contribution(update) for update in block])
        else:
            made.add(total, Update(diff, told, staleness))
    metrics = total.average().metrics
    assert metrics["accuracy"] == MetricMean(0.2, 1.0)
    assert metrics["training_loss"] == MetricMean(pytest.approx(0.55), 2.0)
