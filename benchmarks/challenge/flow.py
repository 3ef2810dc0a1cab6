"""Flow matching, then Euler's method (chapter 10). Its first call, from pure noise, aims at the mean of all digits.

An entry of the few-call challenge: `learn-diffusion challenge benchmarks/challenge/flow.py`.
"""

import torch

from learn_diffusion import optim
from learn_diffusion.challenge import clock
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.samplers import ddim, final_sample
from learn_diffusion.schedules import Flow
from learn_diffusion.training import EMA, loss

BATCH, LR = 64, 2e-3


def build():
    """The small UNet of chapter 21, which is told one time and answers with the velocity."""
    return Denoiser(UNet(widths=(24, 48), attentions=0), Flow(), "u")


def train(net, images, seconds):
    """Regress the velocity until the seconds are over; the learning rate falls to 0 by then."""
    start = clock(images.device)
    (adamw,), ema = optim.optimizers(net, LR, muon=False), EMA(net, halflife=30)
    while (done := (clock(images.device) - start) / seconds) < 1:
        x0 = images[torch.randint(len(images), (BATCH,), device=images.device)]
        t = torch.rand(BATCH, device=images.device)
        adamw.param_groups[0]["lr"] = LR * (1 - done)
        net.zero_grad()
        loss(net, x0, t).backward()
        adamw.step()
        ema.update()
    net.load_state_dict(ema.model.state_dict())  # the averaged weights draw


def draw(net, noise, calls):
    """Euler's method on the flow path, which is DDIM's step."""
    return final_sample(ddim(net, net.schedule, noise, net.schedule.timesteps(calls)))
