"""Reflow (chapter 10): flow matching, and then again on pairs of a noise and the picture that it led to.

Lines between such pairs cross less than lines between noises and digits at random, so the second flow is straighter,
and one call gets farther.

An entry of the few-call challenge: `learn-diffusion challenge benchmarks/challenge/reflow.py`.
"""

import torch

from learn_diffusion import optim
from learn_diffusion.challenge import clock
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample
from learn_diffusion.schedules import Flow
from learn_diffusion.training import EMA, loss

BATCH, LR = 64, 2e-3
PAIRS, STEPS = 2000, 6  # noises, and the calls that lead each to its picture


def build():
    """The small UNet of chapter 21, which is told one time and answers with the velocity."""
    return Denoiser(UNet(widths=(24, 48), attentions=0), Flow(), "u")


def fit(net, pictures, noises, end):
    """Flow matching until the clock says end, of each picture with its own noise; noises None: with a new one."""
    device = pictures.device
    start = clock(device)
    (adamw,), ema = optim.optimizers(net, LR, muon=False), EMA(net, halflife=30)
    while (now := clock(device)) < end:
        rows = torch.randint(len(pictures), (BATCH,), device=device)
        t, eps = torch.rand(BATCH, device=device), None if noises is None else noises[rows]
        adamw.param_groups[0]["lr"] = LR * (end - now) / (end - start)
        net.zero_grad()
        loss(net, pictures[rows], t, eps=eps).backward()
        adamw.step()
        ema.update()
    net.load_state_dict(ema.model.state_dict())  # the averaged weights draw


def train(net, images, seconds):
    """Half of the seconds for the first flow; what the pairs leave of the other half for the second."""
    start = clock(images.device)
    fit(net, images, None, start + seconds / 2)
    noises = torch.randn(PAIRS, *images.shape[1:], device=images.device)
    ts = net.schedule.timesteps(STEPS)
    ends = [final_sample(dpmpp_2m(net, net.schedule, part, ts)) for part in noises.split(500)]
    fit(net, torch.cat(ends).clamp(-1, 1), noises, start + seconds)


def draw(net, noise, calls):
    """Euler's method on the flow path, which is DDIM's step."""
    return final_sample(ddim(net, net.schedule, noise, net.schedule.timesteps(calls)))
