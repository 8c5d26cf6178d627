"""A model owner and two workers of PySyft 0.2.9, against the grid at an address. Knows nothing of fedplan.

    python pysyft_cycle.py HOST:PORT

Hosts a linear regression, trains one cycle with PySyft's own worker, once with the Plan's op list and once
with its TorchScript, waits for the next checkpoint and prints what came out as one JSON object.
"""

import json
import sys
import time

import syft as sy
import torch
from syft.execution.placeholder import PlaceHolder
from syft.execution.state import State
from syft.execution.translation import TranslationTarget
from syft.grid.clients.model_centric_fl_client import ModelCentricFLClient
from syft.workers.model_centric_fl_worker import ModelCentricFLWorker

NAME, VERSION = "pysyft", "1.0"
BATCHES = 5
SLOPE = torch.tensor([[1.0], [-2.0], [0.5]])

sy.TorchHook(torch)


def state_of(tensors):
    return State(state_placeholders=[PlaceHolder().instantiate(tensor) for tensor in tensors])


@sy.func2plan()
def training_plan(x, y, batch_size, lr, params):
    w, b = params
    w.requires_grad_()
    b.requires_grad_()
    error = x.matmul(w) + b - y
    loss = (error * error).sum() / batch_size
    loss.backward()
    return loss, w - lr * w.grad, b - lr * b.grad


@sy.func2plan()
def averaging_plan(average, item, number):
    return [(a * number + d) / (number + 1) for a, d in zip(average, item)]


def start():
    return [torch.zeros(3, 1), torch.zeros(1)]


def host(address):
    training_plan.build(
        torch.randn(4, 3),
        torch.randn(4, 1),
        torch.tensor([4.0]),
        torch.tensor([0.1]),
        start(),
        trace_autograd=True,
    )
    averaging_plan.build(start(), start(), torch.tensor([1.0]))
    averaging_plan.base_framework = TranslationTarget.PYTORCH.value
    client = ModelCentricFLClient(id="owner", address=address)
    client.connect()
    answer = client.host_federated_training(
        model=state_of(start()),
        client_plans={"training_plan": training_plan},
        client_protocols={},
        client_config={"name": NAME, "version": VERSION, "batch_size": 4, "lr": 0.1, "max_updates": BATCHES},
        server_averaging_plan=averaging_plan,
        server_config={
            "min_workers": 2,
            "max_workers": 2,
            "pool_selection": "random",
            "num_cycles": 2,
            "do_not_reuse_workers_until_cycle": 1,
            "cycle_length": 600,
            "min_diffs": 2,
            "max_diffs": 2,
            "minimum_upload_speed": 0,
            "minimum_download_speed": 0,
            "iterative_plan": True,
        },
    )
    return client, answer


def join(address):
    """Two workers of a cycle that begins with two: each asks until it is accepted, as the answers say."""
    workers = [ModelCentricFLWorker(id=str(i), address=address) for i in range(2)]
    joined = {}
    for worker in workers:
        worker.known = worker.authenticate(None, NAME, VERSION)["data"]
        worker.speed = {}
        if worker.known.get("requires_speed_test"):
            worker.speed = worker.get_connection_speed(worker.known["worker_id"])
    for _ in range(20):
        for worker in workers:
            if worker not in joined:
                cycle = worker.cycle_request(worker.known["worker_id"], NAME, VERSION, worker.speed)["data"]
                if cycle["status"] == worker.CYCLE_STATUS_ACCEPTED:
                    joined[worker] = cycle
        if len(joined) == len(workers):
            return [(worker, joined[worker]) for worker in workers]
        time.sleep(cycle.get("timeout", 1))
    raise SystemExit("the workers are not accepted: %s" % cycle)


def train(worker, cycle, kind, seed):
    """One worker's training; returns its answers and losses, and its difference."""
    keys = worker.known["worker_id"], cycle["request_key"]
    before = worker.get_model(*keys, cycle["model_id"]).tensors()
    plan = worker.get_plan(*keys, cycle["plans"]["training_plan"], receive_operations_as=kind)
    params, losses = [p.clone() for p in before], []
    config = cycle["client_config"]
    generator = torch.Generator().manual_seed(seed)
    size, lr = torch.tensor([float(config["batch_size"])]), torch.tensor([config["lr"]])
    for _ in range(config["max_updates"]):
        x = torch.randn(config["batch_size"], 3, generator=generator)
        run = plan if kind == worker.PLAN_TYPE_LIST else plan.torchscript
        loss, *params = run(x, x.matmul(SLOPE), size, lr, params)
        losses.append(loss.item())
    difference = [b - p for b, p in zip(before, params)]
    report = worker.report(*keys, state_of(difference))["data"]
    worker.close()
    return {"cycle": sorted(cycle), "report": report, "losses": losses}, difference


def next_checkpoint(client):
    for _ in range(100):
        try:
            return client.get_model(NAME, VERSION, checkpoint="2").tensors()
        except sy.grid.exceptions.GridError:
            time.sleep(0.1)
    raise SystemExit("the cycle did not close")


def main():
    address = sys.argv[1]
    client, answer = host(address)
    kinds = (ModelCentricFLWorker.PLAN_TYPE_LIST, ModelCentricFLWorker.PLAN_TYPE_TORCHSCRIPT)
    trained = [train(*joined, kind, seed) for seed, (joined, kind) in enumerate(zip(join(address), kinds))]
    (first, a), (second, b) = trained
    expected = [s - (x + y) / 2 for s, x, y in zip(start(), a, b)]
    apart = max((t - e).abs().max().item() for t, e in zip(next_checkpoint(client), expected))
    found = {"host": answer, "list": first, "torchscript": second, "apart": apart}
    print(json.dumps(dict(found, torch=torch.__version__)))


if __name__ == "__main__":
    main()
