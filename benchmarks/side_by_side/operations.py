"""Where the time of a training step goes, ours and each peer's: convolutions, and what surrounds them.

Only convolutions and products of matrices count as FLOP: the rest of the time keeps a training below the peak.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from learn_diffusion import devices
from side_by_side.contenders import matched, our_steps, peer_steps
from side_by_side.peers import PEERS, peer
from side_by_side.throughput import pictures
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
WARM = 3  # steps before the profile


def kind(name: str) -> str:
    """The kind of an operation by its name: "aten::convolution_backward" -> "convolutions, backward"."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "the rest")


def shares(step: Callable[[], object], steps: int) -> tuple[dict[str, float], float]:
    """Share of the processor's time by kind, and the milliseconds of a step."""
    for _ in range(WARM):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
    spent = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in seen.key_averages():
        spent[kind(event.key)] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {name: part / whole for name, part in spent.items()}, whole / steps / 1e3


def run(options: Namespace) -> Iterator[Table]:
    """Ours and all peers in float32 and channels_last, so that one table compares like with like."""
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
        shape = (data.shape[1], data.shape[2])
        for who in ("ours", *PEERS):
            net = matched(who, shape)
            step = (our_steps(net, data, options.batch) if who == "ours"
                    else peer_steps(who, net, data, options.batch, nhwc=True, bf16=False))  # fmt: skip
            found, took = shares(step, options.steps)
            table.rows.append((size, who, took, *(f"{share:.0%}" for share in found.values())))
            print(f"  {size} {who}: {took:.0f} ms", flush=True)
    yield table
