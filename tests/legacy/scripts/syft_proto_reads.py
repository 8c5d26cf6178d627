"""Takes part in a cycle over HTTP and reads what the grid serves with the package syft-proto.

    python syft_proto_reads.py HOST:PORT NAME VERSION

Prints the fields that it found as one JSON object. Knows nothing of fedplan.
"""

import base64
import json
import sys

import requests
from syft_proto.execution.v1.plan_pb2 import Plan
from syft_proto.execution.v1.state_pb2 import State


def main():
    address, name, version = sys.argv[1:]
    url = "http://%s/model-centric/" % address

    def post(call, **fields):
        answer = requests.post(url + call, json=fields)
        answer.raise_for_status()
        return answer.json()

    def get(call, **fields):
        answer = requests.get(url + call, params=fields)
        answer.raise_for_status()
        return answer.content

    who = post("authenticate", model_name=name, model_version=version)["worker_id"]
    cycle = post("cycle-request", worker_id=who, model=name, version=version)
    keys = {"worker_id": who, "request_key": cycle["request_key"]}
    model = State.FromString(get("get-model", model_id=cycle["model_id"], **keys))
    plans = {
        kind: Plan.FromString(
            get("get-plan", plan_id=cycle["plans"]["training_plan"], receive_operations_as=kind, **keys)
        )
        for kind in ("list", "torchscript")
    }
    contents = [tensor.torch_tensor.contents_data for tensor in model.tensors]
    role = plans["list"].role
    print(
        json.dumps(
            {
                "shapes": [list(c.shape.dims) for c in contents],
                "dtypes": [c.dtype for c in contents],
                "values": [list(c.contents_float32) for c in contents],
                "name": plans["list"].name,
                "commands": [action.command for action in role.actions],
                "inputs": [i.id_int for i in role.input_placeholder_ids],
                "outputs": [i.id_int for i in role.output_placeholder_ids],
                "unknown_fields": sum(len(m.UnknownFields()) for m in (model, *plans.values(), role)),
                "torchscript": base64.b64encode(plans["torchscript"].torchscript).decode(),
                "torchscript_actions": len(plans["torchscript"].role.actions),
            }
        )
    )


if __name__ == "__main__":
    main()
