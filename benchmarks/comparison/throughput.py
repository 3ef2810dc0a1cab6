"""Training pictures a second: ours by training.train, each peer at the best of the settings that are tried.

Ours and the peer take turns in one process, and the ratio is the median over the turns. The networks have nearly the
same number of parameters but not the same work, so a second ratio is of operations a second.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn

from comparison.baselines import MAKERS, PEERS, matched, our_step, parameters, peer, peer_step
from comparison.timing import flops, pairs, peak, repeats, seconds
from learn_diffusion import devices
from tools.tables import Table, machine


def pictures(size: str, device: torch.device) -> Tensor:
    """Noise to train on: "32x32x3" -> (512, 3, 32, 32). What it shows changes no time."""
    side, _, channels = map(int, size.split("x"))
    return torch.rand(512, channels, side, side, device=device) * 2 - 1


def flops_a_picture(name: str, net: nn.Module, data: Tensor) -> float:
    """Operations of the loss of one picture, forward and backward."""
    baseline = MAKERS[name](net.to(data.device), (data.shape[1], data.shape[2]))
    return flops(lambda: baseline.loss(data[:4]).backward()) / 4


def trials(
    name: str, net: nn.Module, data: Tensor, batch: int, budget: float, slow: set[str]
) -> dict[str, tuple[float, Callable]]:
    """Seconds a step at each setting, and the step.

    A setting that fails is left out, and so is one in slow, to which those are added that took three times the best.
    """
    found = {}
    for nhwc, bf16 in product((False, True), repeat=2):
        setting = f"{'nhwc' if nhwc else 'nchw'}, {'bf16' if bf16 else 'fp32'}"
        if setting in slow:
            continue
        step = peer_step(name, net, data, batch, nhwc, bf16)
        try:
            found[setting] = (seconds(step, repeats(step, budget)), step)
        except Exception as error:  # a setting a peer cannot take is a finding, not a reason to stop
            print(f"  {setting}: {type(error).__name__}", flush=True)
    best = min(took for took, _ in found.values())
    slow |= {setting for setting, (took, _) in found.items() if took > 3 * best}
    return found


def run(options: Namespace) -> Iterator[Table]:
    """The comparisons, and what was tried for each peer."""
    device = torch.device(options.device)
    names = list(PEERS) if device.type == "cpu" else ["diffusers"]
    for name in names:
        peer(name)
    most = peak(device)
    bf16 = {size: devices.use_bf16(device, int(size.split("x")[0])) for size in options.sizes}
    table = Table(
        f"Training, pictures a second, {machine()}",
        ("size", "batch", "peer", "parameters, ours", "parameters, peer's", "MFLOP a picture, ours",
         "MFLOP a picture, peer's", "pictures/s, ours", "pictures/s, peer's", "ours / peer", "the same by FLOP",
         "GFLOP/s, ours", "GFLOP/s, peer's", "share of the peak, ours", "share of the peak, peer's", "peer's setting"),
        notes=[
            f"peak: {most / 1e9:.0f} GFLOP/s, a 3x3 convolution in float32, forward and backward, in this run; "
            f"a share of a network in bf16 is of that peak too, and may pass 1",
            f"medians of {options.pairs} turns of {options.seconds:g} s each; 'ours / peer' is the median of "
            f"the turns' ratios",
            "ours: training.train with its defaults, running average included; computes in bf16 where it decides to: "
            + ", ".join(f"{size} {'yes' if yes else 'no'}" for size, yes in bf16.items()),
            "peers: their loss, fused AdamW, no running average, the best of the trials, which the file lists",
            "operations are counted by torch for the loss of a picture, forward and backward",
        ],
    )  # fmt: skip
    tried = Table(
        "What was tried for each peer, pictures a second",
        ("size", "batch", "peer", "trials"),
        notes=["a setting three times slower than the best is not tried again at the larger batches"],
    )
    slow = {(size, name): set() for size in options.sizes for name in names}
    for size, batch, name in product(options.sizes, options.batches, names):
        data = pictures(size, device)
        nets = [matched(who, (data.shape[1], data.shape[2])).to(device) for who in ("ours", name)]
        work = [flops_a_picture(who, net, data) for who, net in zip(("ours", name), nets, strict=True)]
        found = trials(name, nets[1], data, batch, options.seconds / 2, slow[size, name])
        best = min(found, key=lambda setting: found[setting][0])
        *took, ratio = pairs(our_step(nets[0], data, batch), found[best][1], options.pairs, options.seconds)
        rates = [w * batch / s for w, s in zip(work, took, strict=True)]
        table.rows.append((
            size, batch, name, *map(parameters, nets), *(w / 1e6 for w in work), *(batch / s for s in took), ratio,
            ratio * work[0] / work[1], *(rate / 1e9 for rate in rates), *(rate / most for rate in rates), best,
        ))  # fmt: skip
        said = "; ".join(f"{setting} {batch / step_s:.0f}" for setting, (step_s, _) in found.items())
        tried.rows.append((size, batch, name, said))
        print(f"  {size} {batch} {name}: {ratio:.2f}", flush=True)
    yield table
    yield tried
