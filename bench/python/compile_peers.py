# SPDX-License-Identifier: Apache-2.0
"""torch.compile's versions of our memory-bound CUDA ops: what a PyTorch user has without kernels of their own.

    python compile_peers.py [--json FILE] [--ops LIST] [--dtypes LIST] [--tokens LIST] [--widths LIST] [--mode MODE]

Each op is written as one would in PyTorch, computing in float32 and rounding once, in place where ours is, and
compiled for each shape by itself. Its result is compared with the same function, not compiled, in float64
first. Times are CUDA events' around a CUDA graph of calls that go through enough sets of arguments to fill the
second-level cache several times over, so that each call finds it cold; the host's part of a call is not in them.
`us` is the median over the samples of the time of one call.

A JSON list of {"op", "dtype", "tokens", "width", "us", "bytes"}, which `npm run bench -- cuda --peers FILE` reads.
`width` is the last dimension of the output; for rotary_embedding it is that of the query, the key being a quarter of
it.
"""

import argparse
import json
import math
import statistics
import sys

import torch

HEAD_SIZE = 128
MAX_POSITION = 8192
# Together the sets of arguments are larger than any second-level cache by this factor.
COLD_BYTES = 4 * 64 * 2**20
SAMPLES = 25


def wide(x):
    return x if x.dtype == torch.float64 else x.float()


def halves(x):
    d = x.shape[-1] // 2
    return wide(x[..., :d]), wide(x[..., d:])


def silu_and_mul(out, x):
    gate, up = halves(x)
    out.copy_(torch.nn.functional.silu(gate) * up)


def gelu_and_mul(out, x):
    gate, up = halves(x)
    out.copy_(torch.nn.functional.gelu(gate) * up)


def gelu_tanh_and_mul(out, x):
    gate, up = halves(x)
    out.copy_(torch.nn.functional.gelu(gate, approximate="tanh") * up)


def gelu_new(out, x):
    out.copy_(torch.nn.functional.gelu(wide(x), approximate="tanh"))


def gelu_fast(out, x):
    x = wide(x)
    out.copy_(0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))))


def gelu_quick(out, x):
    x = wide(x)
    out.copy_(x * torch.sigmoid(1.702 * x))


def rms_norm(out, x, weight):
    x = wide(x)
    out.copy_(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * wide(weight))


def fused_add_rms_norm(x, residual, weight):
    residual.copy_(wide(x) + wide(residual))
    total = wide(residual)
    x.copy_(total * torch.rsqrt(total.square().mean(-1, keepdim=True) + 1e-5) * wide(weight))


def rotary_embedding(positions, query, key, cache):
    cos, sin = wide(cache.index_select(0, positions)).chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    for states in (query, key):
        heads = wide(states).unflatten(-1, (-1, HEAD_SIZE))
        x, y = heads.chunk(2, dim=-1)
        states.copy_(torch.cat([x * cos - y * sin, y * cos + x * sin], dim=-1).flatten(-2))


def gated_arguments(tokens, width, new):
    return [new(tokens, width), new(tokens, 2 * width)]


def plain_arguments(tokens, width, new):
    return [new(tokens, width), new(tokens, width)]


def norm_arguments(tokens, width, new):
    return [new(tokens, width), new(tokens, width), new(width)]


def rotary_arguments(tokens, width, new):
    query, key, cache = new(tokens, width), new(tokens, width // 4), new(MAX_POSITION, HEAD_SIZE)
    angles = torch.rand(MAX_POSITION, HEAD_SIZE // 2, device=query.device) * 2 * math.pi
    cache.copy_(torch.cat([angles.cos(), angles.sin()], dim=-1))
    return [torch.randint(MAX_POSITION, (tokens,), device=query.device), query, key, cache]


OPS = {
    # function, its arguments, and how often each argument is read or written: what a call moves at least.
    "silu_and_mul": (silu_and_mul, gated_arguments, (1, 1)),
    "gelu_and_mul": (gelu_and_mul, gated_arguments, (1, 1)),
    "gelu_tanh_and_mul": (gelu_tanh_and_mul, gated_arguments, (1, 1)),
    "gelu_new": (gelu_new, plain_arguments, (1, 1)),
    "gelu_fast": (gelu_fast, plain_arguments, (1, 1)),
    "gelu_quick": (gelu_quick, plain_arguments, (1, 1)),
    "rms_norm": (rms_norm, norm_arguments, (1, 1, 1)),
    "fused_add_rms_norm": (fused_add_rms_norm, norm_arguments, (2, 2, 1)),
    "rotary_embedding": (rotary_embedding, rotary_arguments, (1, 2, 2, 0)),
}
# An ulp of the dtype at 1, and what the order of a sum may cost.
RELATIVE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def check(name, function, compiled, arguments, dtype):
    """The compiled function against the plain one in float64, on arguments of their own."""
    exact = [a.double() if a.is_floating_point() else a for a in arguments]
    tried = [a.clone() for a in arguments]
    function(*exact)
    compiled(*tried)
    for right, received in zip(exact, tried):
        if not right.is_floating_point():
            continue
        limit = RELATIVE[dtype] * (right.abs() + 0.1)
        if not bool(((received.double() - right).abs() <= limit).all()):
            raise SystemExit(f"{name}, {dtype}: torch.compile's result is wrong; nothing was measured")


def microseconds(call, sets):
    """Medians over graphs that call once with each set of arguments."""
    for arguments in sets[:2]:
        call(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for arguments in sets:
            call(*arguments)
    graph.replay()
    samples = []
    for _ in range(SAMPLES):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(start.elapsed_time(end) * 1000 / len(sets))
    return statistics.median(samples)


def measure(name, dtype, tokens, width, mode):
    function, arguments_of, uses = OPS[name]
    device = torch.device("cuda")

    def new(*shape):
        return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)

    arguments = arguments_of(tokens, width, new)
    size = sum(a.numel() * a.element_size() for a in arguments)
    moved = sum(a.numel() * a.element_size() * times for a, times in zip(arguments, uses))
    if function is rotary_embedding:
        moved += tokens * HEAD_SIZE * dtype.itemsize
    torch._dynamo.reset()
    compiled = torch.compile(function, mode=mode, dynamic=False)
    check(name, function, compiled, arguments, dtype)
    # In place again and again, norms stay what they are and rotations keep their length: no set needs to be fresh.
    count = max(4, min(256, math.ceil(COLD_BYTES / size)))
    sets = [arguments] + [arguments_of(tokens, width, new) for _ in range(count - 1)]
    us = microseconds(compiled, sets)
    shown = f"{name}, neox" if function is rotary_embedding else name
    return {"op": shown, "dtype": str(dtype).split(".")[1], "tokens": tokens, "width": width, "us": us, "bytes": moved}


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the document to this file and not to stdout")
    parser.add_argument("--ops", default=",".join(OPS), help="a list of names")
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--tokens", type=numbers, default=[16, 4096])
    parser.add_argument("--widths", type=numbers, default=[4096, 14336])
    parser.add_argument("--mode", default="default", help="torch.compile's; max-autotune-no-cudagraphs takes minutes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, mode {options.mode}", file=sys.stderr)
    results = []
    with torch.inference_mode():
        for name in options.ops.split(","):
            for dtype in options.dtypes.split(","):
                for tokens in options.tokens:
                    # A query of 32 heads, as models have it.
                    for width in [4096] if name == "rotary_embedding" else options.widths:
                        torch.manual_seed(0)
                        results.append(measure(name, getattr(torch, dtype), tokens, width, options.mode))
                        last = results[-1]
                        speed = last["bytes"] / last["us"] / 1e3
                        print(f"{name} {dtype} {tokens} x {width}: {last['us']:.2f} us, {speed:.0f} GB/s", file=sys.stderr)
                        torch.cuda.empty_cache()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    else:
        print(json.dumps(results))


main()
