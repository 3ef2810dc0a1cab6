"""Chapter 24, What does the loss bound?"""

from __future__ import annotations

import math

import torch

from learn_diffusion.exercises.core import Exercise

# one step of Euler and Maruyama


def your_step(x, score, f, g, dt, z):
    return x - (f * x - g**2 * score) * dt + g * dt**0.5 * z


def _step(sign=1.0, pull=2.0, share=1.0, kick=1.0, root=0.5, shrink=-1.0):
    """With another sign, another power of g at the score, another share of it, another kick, another drift."""

    def answer(x, score, f, g, dt, z):
        return x + sign * (shrink * f * x + share * g**pull * score) * dt + g**kick * dt**root * z

    return answer


def _by_velocity(x, score, f, g, dt, z):
    velocity = f * x - g * g * score  # forward in time
    return x + velocity * -dt + g * z * math.sqrt(dt)


def _states():
    gen = torch.Generator().manual_seed(0)
    x, score, z = torch.randn(3, 6, 2, generator=gen)
    return [(x, score, -1.7, 1.9, 0.01, z), (x, -x, -0.4, 0.8, 0.05, z)]


Exercise(
    "24.euler_maruyama",
    """One step of Euler and Maruyama, back towards the data. The point is `x` (B, D) at the level $t$, `score` (B, D) is $\\nabla\\log p_t(x)$ there, `f` and `g` are the drift and diffusion coefficients at $t$ (numbers), `dt` > 0 is **how far back** the step goes, from $t$ to $t - dt$, and `z` (B, D) is noise of variance 1.
    `your_step(x, score, f, g, dt, z)` returns the point at $t - dt$, by $dx = (f\\,x - g^2\\,\\nabla\\log p_t)\\,dt + g\\,dw$.""",
    hints=[
        "The step goes back in time: what the drift adds forward in time is subtracted.",
        "A kick of a step of length dt has the variance dt, so it is dt ** 0.5 times z.",
        "g is squared at the score, and not at the kick.",
    ],
    solution=your_step,
    inputs=_states,
    mistakes={
        "The kick has the *variance* dt; here its standard deviation is dt. Take the root: with this, small steps have no noise left.": _step(
            root=1.0
        ),
        "The drift has the wrong sign: you go back by dt > 0, so subtract (f x - g^2 score) dt.": _step(sign=-1.0),
        "The score is multiplied by g; it should be g^2.": _step(pull=1.0),
        "The score lacks its factor g^2.": _step(pull=0.0),
        "This is half of the score, as in the ODE, but with a kick. With fresh noise, the whole score is needed.": _step(
            share=0.5
        ),
        "The score has the wrong sign: this walks away from the data.": _step(share=-1.0),
        "The kick is g times noise, and not g^2 times: the variance of a kick is g^2 dt.": _step(kick=2.0),
        "The kick lacks its factor g.": _step(kick=0.0),
        "f x has the wrong sign: on the way back the point grows where it shrank before (f is negative).": _step(
            shrink=1.0
        ),
        "The drift lacks f x: this only follows the score.": _step(shrink=0.0),
        "The kick is missing. Without it, and with half of the score, it would be the ODE.": lambda x, score, f, g, dt, z: (
            x - (f * x - g**2 * score) * dt
        ),
    },
    variants=[_by_velocity, _step()],
    result="the point",
    right="The drift is of size dt and the kick of size sqrt(dt): in a small step, noise is all one sees.",
)

# the divergence, by random signs


def your_divergence(v, x, z):
    x = x.detach().requires_grad_()
    total = 0
    for signs in z:
        (row,) = torch.autograd.grad(v(x), x, signs)
        total = total + (row * signs).sum(1)
    return total / len(z)


def _by_jacobian(v, x, z):
    jacobian = torch.stack([torch.autograd.functional.jacobian(v, row[None])[0, :, 0] for row in x])
    return torch.einsum("pbi,bik,pbk->pb", z, jacobian, z).mean(0)


def _signs(other=None, over=torch.mean, of=torch.sum, times=True):
    """With other vectors, another mean, another sum, or one factor z only."""

    def answer(v, x, z):
        x = x.detach().requires_grad_()
        rows = []
        for signs in z:
            (row,) = torch.autograd.grad(v(x), x, signs if other is None else other(signs))
            rows.append(of(row * signs if times else row, dim=1))
        return over(torch.stack(rows), dim=0)

    return answer


def _exact(v, x, z):
    jacobian = torch.stack([torch.autograd.functional.jacobian(v, row[None])[0, :, 0] for row in x])
    return jacobian.diagonal(dim1=1, dim2=2).sum(1)


def _field(x):
    return torch.stack([x[:, 0] * x[:, 1], x[:, 2] ** 2 - x[:, 0], x[:, 2] * x[:, 1]], dim=1)


def _probed():
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=gen)
    return [(_field, x, (torch.randn(p, 5, 3, generator=gen) > 0) * 2.0 - 1) for p in (1, 4)]


Exercise(
    "24.hutchinson",
    """Estimate a divergence with random signs. `v` is a function: velocities (B, D) of points `x` (B, D), each row from its own row of `x` alone. `z` (P, B, D) holds P vectors of signs, +1 or -1, for each point. `your_divergence(v, x, z)` returns the estimate of $\\text{div}\\,v$ at each point, (B,): the mean over the P vectors of $z^\\top J z$.
    Do not compute the whole matrix $J$: one backward pass for each of the P vectors is enough.""",
    hints=[
        "x = x.detach().requires_grad_() makes a copy of x that torch can differentiate by.",
        "torch.autograd.grad(v(x), x, signs)[0] is, for each point, the row vector z J, (B, D).",
        "Multiply by the same signs once more, sum over D, and take the mean over P.",
    ],
    solution=your_divergence,
    inputs=_probed,
    mistakes={
        "The second factor z is missing: this sums z J, whose mean is 0.": _signs(times=False),
        "The first factor z is missing: with ones, the matrix is summed by columns, and off the diagonal nothing cancels.": _signs(
            other=torch.ones_like
        ),
        "Sum over the D coordinates, and do not average them: a trace is a sum.": _signs(of=torch.mean),
        "Average over the P vectors, and do not sum them.": _signs(over=torch.sum),
        "The wrong sign: this is minus the divergence. The minus stands in the change of variables, and not here.": lambda v, x, z: (
            -your_divergence(v, x, z)
        ),
        "This is z times the velocity itself. The divergence is made of derivatives.": lambda v, x, z: (
            (v(x) * z).sum(2).mean(0)
        ),
        "This is the exact divergence. For a picture it would need a backward pass for each pixel: use the signs.": _exact,
    },
    variants=[_by_jacobian, _signs()],
    result="the divergence",
    right="One backward pass for each vector of signs, however many dimensions there are.",
)

# bits a dimension


def your_bits(log_p, pixels, top):
    width = 2 / torch.tensor(top)
    return -(log_p / pixels + width.log()) / torch.tensor(2.0).log()


def _bits(base=2.0, width=lambda top: 2 / top, each=True, sign=-1.0, scale=1.0):
    """In another unit, with another width of a level, of the whole picture, or with another sign."""

    def answer(log_p, pixels, top):
        log_p = log_p / pixels if each else log_p
        return sign * (log_p + scale * math.log(width(top))) / math.log(base)

    return answer


def _by_probability(log_p, pixels, top):
    nats = -log_p - pixels * torch.tensor(2.0 / top).log()  # of the whole picture
    return torch.log2(torch.tensor(math.e)) * nats / pixels


Exercise(
    "24.bits",
    """Bits a dimension. `log_p` (B,) is the mean log-density, in nats, of pictures in $[-1, 1]$ that were dequantised. A picture has `pixels` values, and its whole numbers run from 0 to `top` (255 for 8-bit pictures): value $k$ became $2k/\\text{top} - 1$, plus noise that is uniform over the width of one level. `your_bits(log_p, pixels, top)` returns bits a dimension, (B,):
    how many bits each value of the picture takes, on average over the picture. For a density that is the same everywhere on $[-1, 1]$, it is nearly $\\log_2(\\text{top} + 1)$.""",
    hints=[
        "Probability of a level = density times the width of a level. What is the width, in units of [-1, 1]?",
        "Neighbouring levels are 2 / top apart. Its logarithm counts once for each pixel.",
        "Nats become bits by dividing by log(2).",
    ],
    solution=your_bits,
    inputs=lambda: [(torch.tensor([-3.0, 60.0, 110.0]), 64, 16), (torch.tensor([1490.0, 2200.0]), 784, 255)],
    mistakes={
        "This is in nats: divide by log(2).": _bits(base=math.e),
        "The width of a level is missing: a density is no probability. Pictures run from -1 to 1, so multiply by 2 / top.": _bits(
            scale=0.0
        ),
        "This is the width for pictures from 0 to 1. From -1 to 1, levels are 2 / top apart.": _bits(
            width=lambda top: 1 / top
        ),
        "From 0 to `top` there are `top` steps between neighbours: the width is 2 / top.": _bits(
            width=lambda top: 2 / (top + 1)
        ),
        "The density is divided by the width, and should be multiplied by it: its logarithm has the wrong sign.": _bits(
            scale=-1.0
        ),
        "The wrong sign: the more probable a picture, the fewer bits it takes.": _bits(sign=1.0),
        "These are bits of the whole picture for the density, but of one pixel for the width: divide log_p by the number of pixels.": _bits(
            each=False
        ),
        "These are bits of the whole picture: divide by the number of pixels.": lambda log_p, pixels, top: (
            pixels * your_bits(log_p, pixels, top)
        ),
    },
    variants=[_by_probability, _bits()],
    result="bits",
    right="{got[0]:.2f} bits a dimension for the first 8-bit picture. Guessing all levels alike takes log2(top + 1): 8 for 8-bit pictures.",
)
