"""Where the time of a training step goes, ours and each peer's: convolutions, and what surrounds them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from comparison.baselines import PEERS, matched, our_step, peer, peer_step
from comparison.throughput import pictures
from learn_diffusion import devices
from tools.tables import Table, machine

# Parts of the names of torch's operations, the first that fits; what fits none is "the rest"
KINDS = {
    "convolutions, forward": ("mkldnn_convolution", "slow_conv", "thnn_conv"),
    "convolutions, backward": ("convolution_backward",),
    "products of matrices, attention": ("::mm", "::bmm", "::addmm", "::baddbmm", "attention"),
    "normalisation": ("group_norm", "layer_norm", "batch_norm", "::var_mean"),
    "activations": ("silu", "gelu", "sigmoid", "softmax"),
    "copies": ("::copy_", "::cat", "::clone", "upsample", "::fill_", "::index"),
    "optimiser and average": ("adam", "Adam", "_foreach", "::lerp_"),
}


def shares(step: Callable[[], object], steps: int) -> tuple[dict[str, float], float]:
    """Share of the processor's time by kind of operation, and the milliseconds of a step."""
    for _ in range(3):  # warm-up
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    spent = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiled.key_averages():
        kinds = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        spent[next(kinds, "the rest")] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {name: part / whole for name, part in spent.items()}, whole / steps / 1e3


def run(options: Namespace) -> Iterator[Table]:
    """Ours as it is, and all peers in float32 and channels_last."""
    for name in PEERS:
        peer(name)
    cpu = torch.device("cpu")
    table = Table(
        f"Share of the time of a training step at batch {options.batch}, {machine()}",
        ("size", "who", "ms in operations, profiled", *KINDS, "the rest"),
        notes=[
            f"torch's profiler over {options.steps} steps, time spent in an operation itself; networks of one size as "
            "in throughput; peers in float32 and channels_last, without a running average",
            "ours: training.train as it is"
            + (", in bf16 at 32x32" if devices.use_bf16(cpu, 32) else ", in float32 here"),
        ],
    )
    for size in ("8x8x1", "32x32x3"):
        data = pictures(size, cpu)
        for who in ("ours", *PEERS):
            net = matched(who, (data.shape[1], data.shape[2]))
            step = (our_step(net, data, options.batch) if who == "ours"
                    else peer_step(who, net, data, options.batch, nhwc=True, bf16=False))  # fmt: skip
            found, took = shares(step, options.steps)
            table.rows.append((size, who, took, *(f"{share:.0%}" for share in found.values())))
            print(f"  {size} {who}: {took:.0f} ms", flush=True)
    yield table
