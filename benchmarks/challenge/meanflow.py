"""MeanFlow (chapter 21): the network learns the average velocity between two times, and draws in jumps of any length.

An entry of the few-call challenge: `learn-diffusion challenge benchmarks/challenge/meanflow.py`.
"""

import torch

from learn_diffusion import optim
from learn_diffusion.challenge import clock
from learn_diffusion.flow_maps import FlowMap, along_path, jumps
from learn_diffusion.nets import UNet
from learn_diffusion.process import expand_like
from learn_diffusion.training import EMA

BATCH, LR = 64, 2e-3


def build():
    """The small UNet of chapter 21, which is told two times."""
    return FlowMap(UNet(widths=(24, 48), attentions=0))


def meanflow_loss(net, x0):
    """For half of the rows r < t, and the target is v - (t - r) du/dt; for the others r = t, and it is v."""
    n, eps = len(x0) // 2, torch.randn_like(x0)
    r, t = torch.rand(2, len(x0), device=x0.device).sort(0).values
    r = torch.cat([r[:n], t[n:]])
    xt = expand_like(1 - t, x0) * x0 + expand_like(t, x0) * eps
    v = eps - x0
    change = along_path(net, xt[:n], r[:n], t[:n], v[:n])  # no gradient goes through it
    target = torch.cat([v[:n] - expand_like((t - r)[:n], x0) * change, v[n:]])
    error = (net(xt, r, t) - target).square().flatten(1).mean(1)
    return (error / (error.detach() + 0.01) ** 0.75).mean()  # rows far off count less


def train(net, images, seconds):
    """Train until the seconds are over; the learning rate falls to 0 by then."""
    start = clock(images.device)
    (adamw,), ema = optim.optimizers(net, LR, muon=False), EMA(net, halflife=30)
    while (done := (clock(images.device) - start) / seconds) < 1:
        x0 = images[torch.randint(len(images), (BATCH,), device=images.device)]
        adamw.param_groups[0]["lr"] = LR * (1 - done)
        net.zero_grad()
        meanflow_loss(net, x0).backward()
        adamw.step()
        ema.update()
    net.load_state_dict(ema.model.state_dict())  # the averaged weights draw


def draw(net, noise, calls):
    """Equal jumps from t = 1 to t = 0."""
    *_, pictures = jumps(net, noise, calls)
    return pictures
