"""The task by Flower's simulation engine: an actor of Ray a core, one client in each at a time."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional as F

from benchmarks.peers.task import CASE, RATE, Clients, Watch, told

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One client's training."""
    torch.set_num_threads(1)
    model = CASE.model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    clients = Clients(Path(str(message.content["config"]["folder"])))
    x, y = clients(int(context.node_config["partition-id"]))
    for xs, ys in zip(x.split(CASE.rows), y.split(CASE.rows), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(xs), ys).backward()
        optimizer.step()
    content = RecordDict(
        {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(y)})}
    )
    return Message(content=content, reply_to=message)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds."""
    folder, rounds = told()
    strategy = FedAvg(
        fraction_train=CASE.cohort / CASE.clients,
        fraction_evaluate=0.0,
        min_train_nodes=CASE.cohort,
        min_available_nodes=CASE.clients,
    )
    watch = Watch()

    def lap(number: int, arrays: ArrayRecord) -> None:
        if number:
            watch.lap()

    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(CASE.model().state_dict()),
        num_rounds=rounds,
        train_config=ConfigRecord({"folder": str(folder)}),
        evaluate_fn=lap,
    )


if __name__ == "__main__":
    run_simulation(
        server_app,
        client_app,
        CASE.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
