"""Chapter 10, Is there a straighter road?"""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, differentiable, noise_of_its_own, numbers

T = torch.linspace(0.1, 0.9, 2000)
POINT = torch.tensor([[1.5, -0.5, 2.0]])


class _Knows:
    """The exact velocity where all data is one point, times a weight; remembers what it was shown, in one call or many."""

    def __init__(self):
        self.weight = torch.ones((), requires_grad=True)
        self.shown: list[tuple[Tensor, Tensor]] = []

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t).reshape(-1, 1)
        self.shown.append((xt.detach(), t.expand(len(xt), 1)))
        return self.weight * (xt - POINT) / t

    def everything(self) -> tuple[Tensor, Tensor]:
        """All points (N, 3) and their levels (N, 1)."""
        return tuple(torch.cat(parts) for parts in zip(*self.shown, strict=True))


def _silent(xt: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(xt)


# flow matching


def _check_flow_loss(loss):
    x0 = POINT.expand(2000, 3)
    square = x0.square().mean().item()

    def theirs(net):
        """In the exercise time runs the other way, and the velocity with it; here, as in the chapter."""
        return call(loss, lambda xt, t: -net(xt, 1 - torch.as_tensor(t)), x0, 1 - T)

    knows = _Knows()
    trains = theirs(knows)
    exact, silence = (numbers(value, (), "the loss").item() for value in (trains, theirs(_silent)))
    if not knows.shown:
        raise IncorrectAnswer("The network is never asked.")
    xt, told = knows.everything()
    if len(told) == len(T) and not torch.allclose(told[:, 0].to(T.dtype), T, atol=1e-5):
        raise IncorrectAnswer("The network is told other levels than those that came with the call.")
    if abs(exact) < 1e-4:
        if silence < 1e-4:
            raise IncorrectAnswer("Every answer gets a loss of 0. The network can learn nothing from that.")
        if abs(silence - 3 * (1 + square)) < 0.3:
            raise IncorrectAnswer(
                "Exact answers cost nothing, but silence costs three times too much: take the mean over the coordinates, too."
            )
        if abs(silence - 1 - square) > 0.15:
            raise IncorrectAnswer(
                f"Exact answers cost nothing, but silence costs {silence:.2f}; expected {1 + square:.2f}. Is it the mean of the "
                "squares, and is the noise Gaussian?"
            )
        noise_of_its_own((xt - (1 - told) * POINT) / told, ("points", "coordinates"))
        differentiable(trains)
        return "Exact answers cost nothing, and silence costs the mean square of u."
    if abs(silence - 1) < 0.1 * square:
        raise IncorrectAnswer("The guess is compared with the noise. Their velocity is x0 - eps.")
    if abs(silence - square) < 0.1 * square:
        raise IncorrectAnswer("The guess is compared with the data. Their velocity is x0 - eps.")
    spread = (xt - xt.mean(0)).std(0).mean()
    early, late = xt[:200], xt[-200:]
    if late.mean(0).sub(POINT).norm() < early.mean(0).sub(POINT).norm() and early.std() > late.std() * 0.9:
        raise IncorrectAnswer(
            "Time runs the other way: at their t near 0 the mixture should be nearly all noise, here it is nearly all data."
        )
    if (early.std(0).mean() - late.std(0).mean()).abs() < 0.15 * spread:
        raise IncorrectAnswer("All points have the same mixture, whatever their t. Each has a level of its own.")
    if (xt.mean(0) - 0.5 * POINT).norm() > 0.3 * POINT.norm():
        raise IncorrectAnswer("x_t keeps too much of the data: on their straight path it is multiplied by t.")
    if abs(silence - 1 - square) < 0.15 * (1 + square) and abs(exact - 4 * (1 + square)) < 3:
        raise IncorrectAnswer(
            f"The exact answer costs {exact:.2f} and should cost 0. Is the sign of the velocity right? Theirs points from the noise to the data."
        )
    raise IncorrectAnswer(
        f"The exact answer costs {exact:.2f} and should cost 0: is it the same noise in the mixture and in the velocity?"
    )


def my_flow_loss(net, x0, t):
    eps = torch.randn_like(x0)
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def ours(net, x0, t):
    eps = torch.randn_like(x0)
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (eps - x0)).square().mean()


def time_of_ours(net, x0, t):
    eps = torch.randn_like(x0)
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def velocity_of_ours(net, x0, t):
    eps = torch.randn_like(x0)
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) - (eps - x0)).square().mean()


def noise_drawn_twice(net, x0, t):
    xt = t[:, None] * x0 + (1 - t[:, None]) * torch.randn_like(x0)
    return (net(xt, t) - (x0 - torch.randn_like(x0))).square().mean()


def asks_for_noise(net, x0, t):
    eps = torch.randn_like(x0)
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) + eps).square().mean()


def asks_for_data(net, x0, t):
    eps = torch.randn_like(x0)
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) - x0).square().mean()


def data_not_shrunk(net, x0, t):
    eps = torch.randn_like(x0)
    return (net(x0 + (1 - t[:, None]) * eps, t) - (x0 - eps)).square().mean()


def one_level_for_all(net, x0, t):
    eps = torch.randn_like(x0)
    xt = t.mean() * x0 + (1 - t.mean()) * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def one_noise_for_all_coordinates(net, x0, t):
    eps = torch.randn(len(x0), 1)
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def levels_of_its_own(net, x0, t):
    return my_flow_loss(net, x0, torch.rand(len(x0)))


def by_mse_loss(net, x0, t):
    eps, t_ = torch.randn(x0.shape), t.view(-1, 1)
    return torch.nn.functional.mse_loss(net(torch.lerp(eps, x0, t_), t), x0 - eps)


def point_by_point(net, x0, t):
    losses = []
    for u, a in zip(t, x0, strict=True):
        eps = torch.randn(a.shape)
        losses.append(((net((u * a + (1 - u) * eps)[None], u[None])[0] + eps - a) ** 2).mean())
    return sum(losses) / len(losses)


def trains_nothing(net, x0, t):
    return my_flow_loss(net, x0, t).item()


flow_loss = Exercise(
    "10.flow_loss",
    r"""Many papers on flow matching let time run the other way: noise at $t = 0$, data at $t = 1$, and a velocity that points from the noise to the data.
    Write the loss in their way. `my_flow_loss(net, x0, t)` gets a network that guesses *their* velocity (`net(xt, t)`), points `x0` of shape (B, D), which are the data as always in this course, and
    their levels `t` of shape (B,). It draws noise, mixes on the straight path, and returns the mean squared error of the guess, a single number. (The check uses data that is one single point: there the exact velocity is $(x_0 - x_t)/(1-t)$.)""",
    hints=[
        "t has the shape (B,), x0 has (B, D): t[:, None] has (B, 1).",
        "The mixture is all noise at t = 0 and all data at t = 1. In between, t of it is data.",
        "The velocity is the derivative of that mixture with respect to t.",
        "xt = t x0 + (1 - t) eps; compare the guess with x0 - eps.",
    ],
    solution=my_flow_loss,
    check=_check_flow_loss,
    mistakes={
        "Time runs the other way": [ours, time_of_ours],
        "sign of the velocity": velocity_of_ours,
        "the same noise in the mixture": noise_drawn_twice,
        "compared with the noise": asks_for_noise,
        "compared with the data": asks_for_data,
        "too much of the data": data_not_shrunk,
        "a level of its own": one_level_for_all,
        "other levels than those": levels_of_its_own,
        "All coordinates get the same noise": one_noise_for_all_coordinates,
        "it trains nothing": trains_nothing,
        "Is it the mean of the squares": lambda net, x0, t: 0.5 * my_flow_loss(net, x0, t),
    },
    variants=[by_mse_loss, point_by_point],
)


# reflow


def _knows_the_line(xt: Tensor, t: Tensor) -> Tensor:
    """Exact where x0 = eps / 3: there x_t = (1 + 2 t) eps / 3, and u = 2 eps / 3 = 2 x_t / (1 + 2 t)."""
    return 2 * xt / (1 + 2 * torch.as_tensor(t).reshape(-1, 1))


def _pairs() -> list[tuple]:
    eps = torch.randn(2000, 3, generator=torch.Generator().manual_seed(77))  # not the answer's own noise
    return [(net, eps / 3, eps, T) for net in (_knows_the_line, _silent)]


def my_reflow_loss(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (eps - x0)).square().mean()


def as_given(net, x0, eps, t):
    eps = torch.randn_like(x0)
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def fresh_noise(net, x0, eps, t):
    eps = torch.randn_like(x0)
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (eps - x0)).square().mean()


def pairs_reversed(net, x0, eps, t):
    xt = t[:, None] * x0 + (1 - t[:, None]) * eps
    return (net(xt, t) - (eps - x0)).square().mean()


def sign_reversed(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (x0 - eps)).square().mean()


def guess_of_noise(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - eps).square().mean()


def guess_of_the_point(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - x0).square().mean()


def fresh_noise_in_the_velocity(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (torch.randn_like(eps) - x0)).square().mean()


def fresh_noise_in_the_mixture(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * torch.randn_like(eps)
    return (net(xt, t) - (eps - x0)).square().mean()


def sum_over_coordinates(net, x0, eps, t):
    xt = (1 - t[:, None]) * x0 + t[:, None] * eps
    return (net(xt, t) - (eps - x0)).square().sum(1).mean()


def along_the_line(net, x0, eps, t):
    line = eps - x0
    return torch.nn.functional.mse_loss(net(x0 + t.unsqueeze(1) * line, t), line)


def no_gradient(net, x0, eps, t):
    with torch.no_grad():
        return my_reflow_loss(net, x0, eps, t)


def _trains(loss):
    weight, (_, *pairs) = torch.ones((), requires_grad=True), _pairs()[0]
    differentiable(call(loss, lambda xt, t: weight * xt, *pairs))


reflow_loss = Exercise(
    "10.reflow_loss",
    r"""Mend the loss of reflow. `my_reflow_loss(net, x0, eps, t)` gets pairs: `eps` is a noise and `x0` the point to which it led. Time runs as in this course again (data at $t = 0$). It should return the mean squared error of the guess of the velocity of the straight line between the two.
    Somebody copied a loss of flow matching and changed too little: two faults are in the code below. It runs, the loss falls, and nothing straightens. (The check joins each noise with a point of its own, $x_0 = \varepsilon/3$. Then the exact velocity is a formula of $x_t$ and $t$.)""",
    hints=[
        "Which noise is mixed in? Follow the argument eps through the code.",
        "The mixture is (1 - t) x0 + t eps. What is its derivative with respect to t?",
        "Use the eps of the pair, and compare the guess with eps - x0.",
    ],
    solution=my_reflow_loss,
    inputs=_pairs,
    result="the loss",
    right="It keeps the pairs together, and the exact answer costs nothing.",
    otherwise="The loss should be {expected[0]:.2f}, and is {got[0]:.2f}.",
    mistakes={
        "Neither fault is mended. One is about the pairs, the other about a direction.": as_given,
        "Other noise than the given one is mixed in. Then nothing straightens: keep the pairs together.": [
            fresh_noise,
            fresh_noise_in_the_mixture,
        ],
        "Time runs the other way: t = 0 is the point, t = 1 the noise.": pairs_reversed,
        "The velocity has the wrong sign: it points from the point to the noise.": sign_reversed,
        "The guess is compared with the noise, not with the velocity.": guess_of_noise,
        "The guess is compared with the point, not with the velocity.": guess_of_the_point,
        "The velocity is not that of the line between *this* noise and *this* point.": fresh_noise_in_the_velocity,
        "The squares are added up over the coordinates: take the mean over them, too.": sum_over_coordinates,
        "it trains nothing": no_gradient,
    },
    variants=[along_the_line],
    check=_trains,
)
