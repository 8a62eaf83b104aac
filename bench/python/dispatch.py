# SPDX-License-Identifier: Apache-2.0
"""The Python side of the dispatch benchmark: ns of a torch.ops call of each row. Reads JSON on stdin, prints JSON."""

import json
import statistics
import sys
import time

import torch

request = json.load(sys.stdin)
torch.set_grad_enabled(False)
torch.set_num_threads(1)

ours = torch.library.Library("vllm_ops", "DEF")
for schema in request["schemas"]:
    ours.define(schema)
torch.ops.load_library(request["library"])
rows = dict(request["rows"])
try:
    torch.ops.load_library(request["nothing"])
except OSError:
    # Built against another torch: the full C++ API is not stable between versions.
    rows = {name: row for name, row in rows.items() if not row["op"].startswith("vllm_ops_bench::")}


def overload(name: str):
    namespace, rest = name.split("::")
    op, _, which = rest.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), op), which or "default")


def argument(value):
    return torch.ones(value["tensor"]) if isinstance(value, dict) else value


def sample(op, args, calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        op(*args)
    return (time.perf_counter_ns() - start) / calls


calls = {name: (overload(row["op"]), [argument(a) for a in row["args"]]) for name, row in rows.items()}
for op, args in calls.values():
    sample(op, args, request["calls"] // 4)
samples = {name: [] for name in calls}
with torch.inference_mode():
    for _ in range(request["rounds"]):
        for name, (op, args) in calls.items():
            samples[name].append(sample(op, args, request["calls"] // 4))

times = {name: {"least": min(values), "median": statistics.median(values)} for name, values in samples.items()}
print(json.dumps({"torch": torch.__version__, "ns": times}))
