# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own torch.library.opcheck on the kernel library, for the samples in a file that opcheck.ts has written.

python opcheck.py SAMPLES.jsonl (the task in the first line, then a sample a line): one JSON line on stdout, {"ran": {op: samples}, "failures": [text]}.
"""

import base64
import json
import sys

import numpy
import torch

UTILS = ("test_schema", "test_faketensor")


def tensor(spec):
    """A tensor of the sample: its values are float64, exact for every dtype but large int64, which no sample has."""
    values = numpy.frombuffer(base64.b64decode(spec["values"]), dtype=numpy.float64).copy()
    dense = torch.from_numpy(values).reshape(spec["shape"]).to(getattr(torch, spec["dtype"]))
    if spec["strides"] is None:
        return dense
    strided = torch.empty_strided(spec["shape"], spec["strides"], dtype=dense.dtype)
    return strided.copy_(dense)


def argument(value):
    if isinstance(value, dict):
        return tensor(value) if "values" in value else getattr(torch, value["scalarType"])
    if isinstance(value, list):
        return [argument(element) for element in value]
    return value


class Fake:
    """What an op returns without data: what its definition in TypeScript gave on the meta device, for the sample at hand."""

    results = []

    def __call__(self, *args):
        made = [
            torch.empty_strided(r["shape"], r["strides"], dtype=getattr(torch, r["dtype"]), device="cpu")
            for r in self.results
        ]
        return None if not made else made[0] if len(made) == 1 else tuple(made)


def main(path):
    file = open(path)
    task = json.loads(next(file))
    library = torch.library.Library("vllm_ops", "FRAGMENT")
    for schema in task["schemas"]:
        library.define(schema)
    torch.ops.load_library(task["library"])
    fake = Fake()
    for name in task["faked"]:
        torch.library.register_fake(f"vllm_ops::{name}", fake, lib=library)
    ran, failures = {}, []
    for line in file:
        sample = json.loads(line)
        name = sample["op"]
        fake.results = sample["results"]
        op = getattr(torch.ops.vllm_ops, name).default
        args = tuple(argument(value) for value in sample["args"])
        outcome = torch.library.opcheck(op, args, test_utils=UTILS, raise_exception=False)
        for util in UTILS:
            if outcome[util] != "SUCCESS":
                text = str(outcome[util]).strip().split("\n")[0]
                failures.append(f"{name}, {sample['name']}: {util}: {text}")
        ran[name] = ran.get(name, 0) + 1
    print(json.dumps({"torch": torch.__version__, "ran": ran, "failures": failures}))


main(sys.argv[1])
