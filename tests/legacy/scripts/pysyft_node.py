"""What a PyGrid node does with what it is sent, done by PySyft 0.2.9. Knows nothing of fedplan.

    python pysyft_node.py FOLDER

The folder holds `model.pb` and Plans, `*.plan.pb`. PySyft reads each Plan, copies it, and writes it again in
the three forms in which a node serves it, to `*.list.pb`, `*.torchscript.pb` and `*.tfjs.pb`; and it averages
the model with itself, and writes the mean to `mean.pb`. Prints how many operations it found in each Plan as
one JSON object.
"""

import json
import pathlib
import sys

import syft as sy
import torch
from syft.execution.placeholder import PlaceHolder
from syft.execution.state import State
from syft.execution.translation.default import PlanTranslatorDefault
from syft.execution.translation.torchscript import PlanTranslatorTorchscript
from syft.serde.protobuf.serde import _bufferize, _unbufferize
from syft_proto.execution.v1.plan_pb2 import Plan as PlanPB
from syft_proto.execution.v1.state_pb2 import State as StatePB

sy.TorchHook(torch)
WORKER = sy.VirtualWorker(hook=None)


def read(kind, path):
    message = kind()
    message.ParseFromString(path.read_bytes())
    return _unbufferize(WORKER, message)


def write(thing, path):
    path.write_bytes(_bufferize(WORKER, thing).SerializeToString())


def served(plan):
    """The Plan by the form in which a client may ask for it."""
    forms = {kind: plan.copy() for kind in ("list", "torchscript", "tfjs")}
    forms["list"].remove_translation(PlanTranslatorTorchscript)
    forms["torchscript"].remove_translation(PlanTranslatorDefault)
    forms["tfjs"].remove_translation(PlanTranslatorTorchscript)
    forms["tfjs"].base_framework = "tfjs"
    forms["tfjs"].roles = None
    return forms


def main():
    folder = pathlib.Path(sys.argv[1])
    found = {}
    for path in sorted(folder.glob("*.plan.pb")):
        name = path.name[: -len(".plan.pb")]
        for kind, form in served(read(PlanPB, path)).items():
            write(form, folder / "{}.{}.pb".format(name, kind))
            found.setdefault(name, {})[kind] = len(form.role.actions)
    tensors = read(StatePB, folder / "model.pb").tensors()
    means = [torch.div(tensor + tensor, 2) for tensor in tensors]
    write(State(state_placeholders=[PlaceHolder().instantiate(mean) for mean in means]), folder / "mean.pb")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
