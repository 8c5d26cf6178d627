"""The task by pfl-research: one model, updated in place, in one process or in several under ``torchrun``."""

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.task import CASE, RATE, Clients, Watch, told


class Net(nn.Module):
    """The model with the two methods that pfl asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CASE.model()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.net(x)

    def loss(self, x: Tensor, y: Tensor, eval: bool = False) -> Tensor:
        """Of a batch."""
        return F.cross_entropy(self(x), y)

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor, eval: bool = True) -> dict[str, Weighted]:
        """Of a client; not measured in this task."""
        return {"loss": Weighted(float(self.loss(x, y)) * len(y), len(y))}


class Laps(TrainingProcessCallback):
    """Tells the seconds of each round."""

    def __init__(self, tells: bool) -> None:
        self.watch = Watch() if tells else None

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """A round has ended."""
        if self.watch is not None:
            self.watch.lap()
        return False, type(aggregate_metrics)()


def main() -> None:
    """Runs it."""
    folder, rounds = told()
    torch.set_num_threads(1)
    np.random.seed(0)
    clients = Clients(folder)
    set_framework_module(pytorch_ops)
    sampler = get_user_sampler("minimize_reuse", list(range(CASE.clients)))
    data = FederatedDataset(lambda client: Dataset(raw_data=list(clients(client))), sampler)
    net = Net()
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=CASE.cohort,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=data, val_data=data),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=RATE, local_batch_size=CASE.rows),
        callbacks=[Laps(pytorch_ops.distributed.global_rank == 0)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
