"""Training pictures a second: ours by training.train, each peer at the best of the settings that are tried.

Ours and the peer take turns in one process, and the ratio is the median over the turns. Networks have nearly the same
number of parameters, but not the same work: the last ratio is of pictures a second times operations a picture.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from learn_diffusion import devices
from side_by_side.contenders import MAKERS, matched, our_steps, parameters, peer_steps
from side_by_side.peers import PEERS, peer
from side_by_side.timing import each, flops, pairs, peak, repeats
from tools.tables import Table, machine

SETTINGS = [(nhwc, bf16) for nhwc in (False, True) for bf16 in (False, True)]


def pictures(size: str, device: torch.device) -> Tensor:
    """Noise to train on: "32x32x3" -> (512, 3, 32, 32). What it shows changes no time."""
    side, _, channels = map(int, size.split("x"))
    return torch.rand(512, channels, side, side, device=device) * 2 - 1


def named(nhwc: bool, bf16: bool, compiled: bool = False) -> str:
    """A setting in words."""
    return ", ".join(["nhwc" if nhwc else "nchw", "bf16" if bf16 else "fp32", *(["compiled"] if compiled else [])])


def count(name: str, net, data: Tensor) -> float:
    """Operations of the loss of a picture, forward and backward."""
    entrant = MAKERS[name](net.to(data.device), (data.shape[1], data.shape[2]))
    return flops(lambda: entrant.loss(data[:4]).backward()) / 4


def trials(steps: Callable[..., Callable], options: Namespace, slow: set[str]) -> dict[str, tuple[float, Callable]]:
    """Seconds a step at each setting, and the stepper; with --compile, the best of them compiled as well.

    A setting that fails is left out, and so is one in slow, to which those are added that took three times the best.
    """
    found = {}

    def attempt(*setting: bool) -> None:
        step = steps(*setting)
        try:
            found[named(*setting)] = (each(step, repeats(step, options.seconds / 2)), step)
        except Exception as error:  # a setting a peer cannot take is a finding, not a reason to stop
            print(f"  {named(*setting)}: {type(error).__name__}", flush=True)

    for setting in SETTINGS:
        if named(*setting) not in slow:
            attempt(*setting)
    best = min(took for took, _ in found.values())
    slow |= {setting for setting, (took, _) in found.items() if took > 3 * best}
    if options.compile:
        attempt(*min((s for s in SETTINGS if named(*s) in found), key=lambda s: found[named(*s)][0]), True)
    return found


def duel(
    name: str, size: str, batch: int, device: torch.device, options: Namespace, slow: set[str]
) -> tuple[dict, list[str]]:
    """Ours against one peer: a row of numbers by name, and the trials in words."""
    data = pictures(size, device)
    nets = {who: matched(who, (data.shape[1], data.shape[2])) for who in ("ours", name)}
    work = {who: count(who, net, data) for who, net in nets.items()}
    tried = trials(partial(peer_steps, name, nets[name], data, batch), options, slow)
    best = min(tried, key=lambda setting: tried[setting][0])
    ours = our_steps(matched("ours", (data.shape[1], data.shape[2])).to(device), data, batch)
    us, them, ratio = pairs(ours, tried[best][1], options.pairs, options.seconds)
    row = {
        "peer": name, "size": size, "batch": batch, "parameters": tuple(map(parameters, nets.values())),
        "work": tuple(work.values()), "rate": (batch / us, batch / them), "ratio": ratio,
        "ratio_flops": ratio * work["ours"] / work[name], "best": best,
    }  # fmt: skip
    return row, [f"{setting} {batch / took:.0f}" for setting, (took, _) in tried.items()]


def compare(names: list[str], device: torch.device, options: Namespace) -> Iterator[Table]:
    """The table of duels, and that of trials."""
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
    for size in options.sizes:
        for batch in options.batches:
            for name in names:
                row, said = duel(name, size, batch, device, options, slow[size, name])
                (our_work, their_work), (our_rate, their_rate) = row["work"], row["rate"]
                rates = our_work * our_rate, their_work * their_rate
                table.rows.append((
                    size, batch, name, *row["parameters"], our_work / 1e6, their_work / 1e6, our_rate, their_rate,
                    row["ratio"], row["ratio_flops"], *(r / 1e9 for r in rates), *(r / most for r in rates),
                    row["best"],
                ))  # fmt: skip
                tried.rows.append((size, batch, name, "; ".join(said)))
                print(f"  {size} {batch} {name}: {row['ratio']:.2f}", flush=True)
    yield table
    yield tried


def run(options: Namespace) -> Iterator[Table]:
    """All peers, on the processor."""
    yield from compare(list(PEERS), torch.device("cpu"), options)
