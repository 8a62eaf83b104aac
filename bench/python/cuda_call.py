# SPDX-License-Identifier: Apache-2.0
"""The Python side of the CUDA benchmark: microseconds that the host is busy with a torch.ops call of each row. Reads JSON on
stdin, prints JSON. The least of the rounds: what else a machine runs only ever adds."""

import json
import sys
import time

import torch

request = json.load(sys.stdin)
torch.set_grad_enabled(False)

ours = torch.library.Library("vllm_ops", "DEF")
for schema in request["schemas"]:
    ours.define(schema)
torch.ops.load_library(request["library"])


def argument(value):
    if not isinstance(value, dict):
        return value
    make = torch.ones if value["dtype"] == "bfloat16" else torch.zeros
    return make(value["tensor"], dtype=getattr(torch, value["dtype"]), device="cuda")


def sample(op, args) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    for _ in range(request["calls"]):
        op(*args)
    return (time.perf_counter_ns() - start) / request["calls"] / 1000


times = {}
with torch.inference_mode():
    for row in request["rows"]:
        op, args = getattr(torch.ops.vllm_ops, row["op"]).default, [argument(a) for a in row["args"]]
        for _ in range(10):
            sample(op, args)
        times[row["op"]] = min(sample(op, args) for _ in range(request["rounds"]))
        torch.cuda.synchronize()

print(json.dumps(times))
