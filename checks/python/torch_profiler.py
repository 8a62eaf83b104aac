# SPDX-License-Identifier: Apache-2.0
"""The program that torch-profiler.ts has written, under torch.profiler.

python torch_profiler.py TASK: one JSON line on stdout, {"torch": version, "ops": {[name, shapes]: {"calls": n, "medianUs": time}}}.
"""

import json
import sys

import torch
from torch.profiler import ProfilerActivity, profile

task = json.loads(sys.argv[1])
torch.set_num_threads(1)
made = {name: torch.ones(sizes) for name, sizes in task["inputs"].items()}


def run():
    values = dict(made)

    def argument(value):
        if isinstance(value, str):
            return values[value]
        return [argument(element) for element in value] if isinstance(value, list) else value

    for step in task["steps"]:
        op = getattr(getattr(torch.ops.aten, step["op"]), step["overload"])
        values[step["result"]] = op(*map(argument, step["args"]))


with torch.inference_mode():
    for _ in range(task["repeat"]):
        run()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True) as result:
        for _ in range(task["repeat"]):
            run()

# Kineto's own events: result.events() leaves an op out that is called by one of its name, such as sum.dim_IntList by sum.
times = {}
for event in result.profiler.kineto_results.events():
    if event.name().startswith("aten::"):
        key = json.dumps([event.name(), [list(shape) for shape in event.shapes()]], separators=(",", ":"))
        times.setdefault(key, []).append(event.duration_ns() / 1000)
ops = {key: {"calls": len(each), "medianUs": sorted(each)[len(each) // 2]} for key, each in times.items()}
print(json.dumps({"torch": torch.__version__.split("+")[0], "ops": ops}))
