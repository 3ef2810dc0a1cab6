"""Chapter 21, Can one call be learned without a teacher?"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.func import jvp

from learn_diffusion.exercises.core import Exercise

# a sampler of jumps


def a_map(x, r, t):
    """Some average velocity, of no data: it depends on all that it is told, and in its own way on each."""
    r, t = (torch.as_tensor(level, dtype=x.dtype).reshape(-1, 1) for level in (r, t))
    return torch.sin(2 * x + 3 * r) + (0.5 + r) * t**2 * x + r - 0.3 * t


def your_sample(u, x, calls):
    n = len(x)
    for k in range(calls, 0, -1):
        t, r = k / calls, (k - 1) / calls
        x = x - (t - r) * u(x, torch.full((n,), r), torch.full((n,), t))
    return x


def _sampler(told=lambda r, t: (r, t), length=lambda r, t: t - r, first=1.0, last=0.0, order=1):
    """With other times told to u, another length of a jump, other ends or another order."""

    def answer(u, x, calls):
        grid = torch.linspace(first, last, calls + 1).tolist()
        for t, r in list(pairwise(grid))[::order]:
            a, b = told(r, t)
            x = x - length(r, t) * u(x, torch.full((len(x),), a), torch.full((len(x),), b))
        return x

    return answer


def _one_call_short(u, x, calls):
    grid = torch.linspace(1, 0, calls + 1).tolist()
    for t, r in list(pairwise(grid))[: max(1, calls - 1)]:
        x = x - (t - r) * u(x, torch.full((len(x),), r), torch.full((len(x),), t))
    return x


def _from_the_start(u, x, calls):
    """Every jump leaves from the noise."""
    out = x
    for k in range(calls, 0, -1):
        t, r = (torch.full((len(x),), level / calls) for level in (k, k - 1))
        out = out - (t - r)[:, None] * u(x, r, t)
    return out


def _noise():
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    return [(a_map, x, calls) for calls in (2, 1, 5)]


Exercise(
    "21.sample",
    """Write the sampler. `u(x, r, t)` is an average velocity: `x` of shape (B, D), and the times `r` and `t` of shape (B,). `your_sample(u, x, calls)` begins with noise `x` at time 1, cuts the time from 1 to 0 into `calls` equal parts, makes one jump for each, and returns the points at time 0.""",
    hints=[
        "With calls = 2 the jumps go from 1 to 0.5, and from 0.5 to 0.",
        "A jump from t to r: x = x - (t - r) * u(x, r, t). The next one starts where it ended.",
        "torch.full((len(x),), 0.5) is a time for each row.",
    ],
    solution=your_sample,
    inputs=_noise,
    mistakes={
        "Every jump should end at the *next* time; here u is asked for the average down to 0.": _sampler(
            told=lambda r, t: (0.0, t)
        ),
        "u is asked for the velocity at t alone, u(x, t, t). That is Euler's method; ask for the average, u(x, r, t).": _sampler(
            told=lambda r, t: (t, t)
        ),
        "The two times of u are exchanged: u(x, r, t), the end of the jump first.": _sampler(told=lambda r, t: (t, r)),
        "The sign is wrong: u points towards the noise, and you go the other way.": _sampler(length=lambda r, t: r - t),
        "u is a velocity. Multiply it by the length of the jump, t - r.": _sampler(length=lambda r, t: 1.0),
        "The velocity is multiplied by t. The jump has the length t - r.": _sampler(length=lambda r, t: t),
        "Every jump leaves from the noise. The next one starts where the last one ended.": _from_the_start,
        "One jump is missing: with 2 calls there are two of them.": _one_call_short,
        "Time runs from 0 to 1 here. Noise is at 1: begin there.": _sampler(first=0.0, last=1.0),
        "The jumps come in the wrong order: the first one leaves from 1.": _sampler(order=-1),
    },
    variants=[_sampler()],
    result="the points",
    right="In one call, in two, in five: the same network does them all.",
)

# what the network is asked to answer


def your_target(u, x, r, t, v):
    zero, one = torch.zeros_like(r), torch.ones_like(t)
    _, change = jvp(u, (x, r, t), (v, zero, one))
    return (v - (t - r)[:, None] * change).detach()


def _target(move=1.0, r_too=0.0, clock=1.0, factor=lambda r, t: t - r, sign=-1.0):
    """With other directions in the derivative, another factor or another sign."""

    def answer(u, x, r, t, v):
        ways = (move * v, r_too * torch.ones_like(r), clock * torch.ones_like(t))
        _, change = jvp(u, (x, r, t), ways)
        return v + sign * factor(r, t)[:, None] * change

    return answer


def _by_difference(u, x, r, t, v):
    h = 1e-3
    there, back = u(x + h * v, r, t + h), u(x - h * v, r, t - h)
    return v - (t - r).unsqueeze(1) * (there - back) / (2 * h)


def _by_one_sided_difference(u, x, r, t, v):
    h = 1e-3
    return v - (t - r)[:, None] * (u(x + h * v, r, t + h) - u(x, r, t)) / h


def _from_the_answer(u, x, r, t, v):
    return u(x, r, t) + _target()(u, x, r, t, v) - v


def _rows():
    g = torch.Generator().manual_seed(1)
    r, t = torch.rand(2, 8, generator=g, dtype=torch.float64).sort(0).values
    x, v = torch.randn(2, 8, 2, generator=g, dtype=torch.float64)
    return [(a_map, x, r, t, v), (a_map, v, torch.zeros_like(t), t, x)]


Exercise(
    "21.target",
    r"""Write MeanFlow's target. `your_target(u, x, r, t, v)` gets a network `u(x, r, t)`, noised points `x` of shape (B, D), their times `r` and `t` of shape (B,), and their velocities `v` of shape (B, D). It returns what the network should answer at these places, of shape (B, D):
    $v - (t - r)$ times the change of $u$ along the path, $v\cdot\nabla_x u + \partial_t u$. Use `torch.func.jvp`, or a difference of two calls.""",
    hints=[
        "jvp(u, (x, r, t), (a, b, c)) returns u and its change where x moves by a, r by b and t by c.",
        "Along the path x moves by v, r stays, and t moves by 1: (v, zeros, ones).",
        "(t - r)[:, None] has the shape (B, 1).",
    ],
    solution=your_target,
    inputs=_rows,
    mistakes={
        "The sign is wrong: the change is *subtracted*. (From v = u + (t - r) times the change.)": _target(sign=1.0),
        "The change of u is not multiplied by the length of the jump, t - r.": _target(
            factor=lambda r, t: torch.ones_like(t)
        ),
        "The change is multiplied by t. The jump has the length t - r.": _target(factor=lambda r, t: t),
        "Only the clock moves here. Along the path x moves too, by v: the term v times the gradient is missing.": _target(
            move=0.0
        ),
        "Only x moves here. The clock moves too: the derivative with respect to t is missing.": _target(clock=0.0),
        "r moves with t here. The end of the jump stays where it is: its direction is 0.": _target(r_too=1.0),
        "The derivative goes with respect to r here, and t stays. It is the other way round.": _target(
            r_too=1.0, clock=0.0
        ),
        "x moves against v here.": _target(move=-1.0),
        "This is the velocity alone, the target of flow matching. Jumps need the second term.": _target(sign=0.0),
        "The first term is the network's own answer here. It should be v, which comes from the data.": _from_the_answer,
    },
    variants=[_by_difference, _by_one_sided_difference, _target()],
    result="the target",
    tolerance=2e-2,  # of a difference to one side, with a step of 0.001
    seconds=60,  # the first jvp of a process takes some: torch loads its rules for derivatives
    right="Where r = t it is v, as in flow matching. There the data comes in.",
)

# the boundary of a consistency model


def your_map(F, x, t):
    return x - t[:, None] * F(x, t)


def _boundary(rule):
    return lambda F, x, t: rule(F(x, t), x, t[:, None])


def a_network(x, t):
    return torch.cos(3 * x) + 2 * torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1) - x


def _levels():
    g = torch.Generator().manual_seed(2)
    x, t = torch.randn(6, 2, generator=g), torch.tensor([0.0, 0.1, 0.3, 0.6, 0.9, 1.0])
    return [(a_network, x, t), (lambda x, t: torch.full_like(x, 2.0), x, t)]


Exercise(
    "21.boundary",
    """A consistency model answers with the end of the path, and at t = 0 the end is the point itself. `F(x, t)` is any network, which knows nothing of this. Build a consistency model `your_map(F, x, t)` from it that has two properties. At `t` = 0 it returns `x`, whatever `F` says. And if `F` says the average velocity
    between 0 and t, it returns the point at time 0 of the path through `x`. `x` has the shape (B, D), `t` (B,).""",
    hints=[
        "A jump from t to r is x - (t - r) u(x, r, t). Where does this one end?",
        "With r = 0 the jump has the length t.",
    ],
    solution=your_map,
    inputs=_levels,
    mistakes={
        "This is the network alone. At t = 0 nothing makes it answer with x.": _boundary(lambda F, x, t: F),
        "The sign is wrong: the velocity points towards the noise.": _boundary(lambda F, x, t: x + t * F),
        "At t = 0 this is x - F. Multiply F by something that is 0 there.": _boundary(lambda F, x, t: x - F),
        "At t = 0 this is x, but F counts as the clean point here, and not as an average velocity.": [
            _boundary(lambda F, x, t: (1 - t) * x + t * F),
            _boundary(lambda F, x, t: torch.where(t == 0, x, F)),
        ],
        "x is shrunk here: the point at time 0 is x minus t times the velocity, with all of x.": _boundary(
            lambda F, x, t: (1 - t) * x - t * F
        ),
        "At t = 0 this is not x: the factor of F is 0 at t = 1, and should be 0 at t = 0.": _boundary(
            lambda F, x, t: x - (1 - t) * F
        ),
        "Right at t = 0, but the jump has the length t, not the square of t.": _boundary(lambda F, x, t: x - t**2 * F),
    },
    variants=[_boundary(lambda F, x, t: torch.lerp(x, x - F, t))],
    result="the end",
    right="The boundary condition holds before the first step of training. MeanFlow has it too: at r = t the length is 0.",
)
