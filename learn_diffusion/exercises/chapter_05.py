"""Chapter 05, Can a small network learn it?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers
from learn_diffusion.schedules import Cosine

# the least possible loss


def _check_least_loss(my_least_loss):
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 1_000_000, generator=g, dtype=torch.float64)
    for s, alpha, sigma in ((0.5, 0.8, 0.6), (2.0, 0.3, 0.9), (1.0, 0.6, 0.8)):
        got = numbers(call(my_least_loss, s, alpha, sigma), (), "the least loss").item()
        total = alpha**2 * s**2 + sigma**2
        x0, xt = s * draws[0], alpha * s * draws[0] + sigma * draws[1]
        measured = (x0 - (x0 @ xt) / (xt @ xt) * xt).square().mean().item()
        if abs(got - measured) < 0.01 * measured:
            continue
        wrong = {
            s**2: "That is the scatter of the data: the loss of someone who does not look at x_t at all.",
            0.0: "Not 0: x_t does not determine x_0.",
            (sigma / alpha)
            ** 2: "That is the error of x_t / alpha as a guess. A better one uses that the data has spread s.",
            sigma**2: "That is the noise in x_t. The guess can use what is known about the data, too.",
            s**2 * alpha**2 / total: "This is the share of the variance that is known. What is left over?",
            sigma**2 / total: "Nearly: this is the least loss in units of the data's variance. Multiply by s^2.",
            (s**2 * sigma**2 / total) ** 0.5: "This is its root. The loss is the mean of the *squared* error.",
            s**2
            * sigma**2
            / (s**2 + sigma**2): "The data in x_t has been shrunk by alpha: its variance there is alpha^2 s^2.",
            alpha**2 * s**2 / total * s**2: "This is how much the guess explains; the loss is the rest of s^2.",
            s**2 / total: "This is the least loss of a guess of the noise, divided by alpha^2. You want that of x_0.",
        }
        for value, words in wrong.items():
            if agrees(got, value):
                raise IncorrectAnswer(words)
        raise IncorrectAnswer(
            f"With s = {s}, alpha = {alpha}, sigma = {sigma}: {got:.3f}; the best guess among a million pairs leaves {measured:.3f}."
        )
    return "It agrees with the best guess among a million pairs."


def my_least_loss(s, alpha, sigma):
    return s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)


def variance_of_data(s, alpha, sigma):
    return s**2


def zero(s, alpha, sigma):
    return 0.0


def unmixed(s, alpha, sigma):
    return (sigma / alpha) ** 2


def root(s, alpha, sigma):
    return s * sigma / (alpha**2 * s**2 + sigma**2) ** 0.5


def in_units_of_the_data(s, alpha, sigma):
    return sigma**2 / (alpha**2 * s**2 + sigma**2)


def without_alpha(s, alpha, sigma):
    return s**2 * sigma**2 / (s**2 + sigma**2)


def explained(s, alpha, sigma):
    return alpha**2 * s**4 / (alpha**2 * s**2 + sigma**2)


def deviations_added(s, alpha, sigma):
    return (s * sigma / (alpha * s + sigma)) ** 2


def harmonically(s, alpha, sigma):
    return 1 / (1 / s**2 + alpha**2 / sigma**2)


def by_the_gain(s, alpha, sigma):
    gain = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
    return torch.tensor((1 - gain * alpha) ** 2 * s**2 + gain**2 * sigma**2)


least_loss = Exercise(
    "05.least_loss",
    r"""How small can it get? Data is Gaussian with mean 0 and standard deviation `s`, noised to $x_t = \alpha x_0 + \sigma\varepsilon$. Write `my_least_loss(s, alpha, sigma)` (three numbers): the mean squared
    error of the best possible guess of $x_0$. (The check draws a million pairs and lets regression find the best guess.)""",
    hints=[
        "The best guess is linear: gain times x_t. Which gain makes the squared error least?",
        "gain = alpha s^2 / (alpha^2 s^2 + sigma^2).",
        "What is left is s^2 minus gain times alpha s^2. Simplify: two terms in the denominator, two squares above.",
    ],
    solution=my_least_loss,
    check=_check_least_loss,
    mistakes={
        "does not look at x_t": variance_of_data,
        "Not 0": zero,
        "x_t / alpha as a guess": unmixed,
        "its root": root,
        "Multiply by s^2": in_units_of_the_data,
        "shrunk by alpha": without_alpha,
        "how much the guess explains": explained,
        "among a million pairs leaves": deviations_added,
    },
    variants=[harmonically, by_the_gain],
)


# one step's loss


def _check_training_loss(my_loss):
    schedule, t = Cosine(), torch.linspace(0.1, 0.9, 2000)
    point = torch.tensor([[1.5, -0.5, 2.0]])
    x0 = point.expand(2000, 3)

    told = []

    def knows(xt, t):
        told.append(torch.as_tensor(t).flatten())
        alpha, sigma = schedule.at(t, xt)
        return (xt - alpha * point) / sigma

    def silent(xt, t):
        return torch.zeros_like(xt)

    def of(net, t=t):
        return numbers(call(my_loss, net, x0, t, schedule), (), "the loss").item()

    exact, silence = of(knows), of(silent)
    square = x0.square().mean().item()
    if told and len(told[0]) == len(t) and not agrees(told[0], t):
        raise IncorrectAnswer("The network is told other levels than those that came with the call.")
    if abs(exact) < 1e-5:
        if abs(silence - 1) < 0.06:
            twos = of(lambda xt, t: torch.full_like(xt, 2.0))
            if abs(twos - 5) > 0.3:
                raise IncorrectAnswer(
                    f"Exact answers cost nothing and silence costs 1, but always answering 2 costs {twos:.2f}, and should cost 5: the mean of the *squares* of 2 - eps. Is there a root?"
                )
            return "Exact answers cost nothing, and silence costs 1, the variance of the noise."
        if silence < 1e-5:
            raise IncorrectAnswer("Every answer gets a loss of 0. The network can learn nothing from that.")
        if abs(silence - 3) < 0.2:
            raise IncorrectAnswer(
                "Exact answers cost nothing, but silence costs 3, the number of coordinates: take the mean over them, too."
            )
        raise IncorrectAnswer(
            f"Exact answers cost nothing, but silence costs {silence:.2f}, and should cost 1, the variance of the noise."
        )
    if abs(silence - square) < 0.06 * square:
        raise IncorrectAnswer("The guess is compared with the data. It is a guess of the noise.")
    if abs(exact - 2) < 0.2 and abs(silence - 1) < 0.06:
        raise IncorrectAnswer(f"The exact answer costs {exact:.2f} and should cost 0. Is noise drawn twice?")
    if abs(of(knows, torch.full_like(t, 0.5))) < 1e-5:
        raise IncorrectAnswer(
            "Where all levels are equal it is right, and where they differ it is not: each point has to be mixed at its own level."
        )
    if abs(silence - 1) < 0.06:
        raise IncorrectAnswer(
            f"The exact answer costs {exact:.2f} and should cost 0: x_t is not mixed as alpha x0 + sigma eps."
        )
    raise IncorrectAnswer(
        f"The exact answer costs {exact:.2f} and should cost 0; silence costs {silence:.2f} and should cost 1."
    )


def my_loss(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean()


def noise_drawn_twice(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    xt = alpha * x0 + sigma * torch.randn_like(x0)
    return (net(xt, t) - torch.randn_like(x0)).square().mean()


def compared_with_x0(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    return (net(alpha * x0 + sigma * torch.randn_like(x0), t) - x0).square().mean()


def one_level_for_all(net, x0, t, schedule):
    alpha, sigma = schedule.at(t[0], x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean()


def variance_for_sigma(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma**2 * eps, t) - eps).square().mean()


def summed_over_coordinates(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().sum(dim=1).mean()


def compared_with_itself(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    guess = net(alpha * x0 + sigma * torch.randn_like(x0), t)
    return (guess - guess.detach()).square().mean()


def uniform_noise(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.rand_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean()


def root_of_the_mean(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean().sqrt()


def levels_of_its_own(net, x0, t, schedule):
    t = torch.rand(len(x0)).clamp(0.01, 0.99)
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean()


def told_the_other_end(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, 1 - t) - eps).square().mean()


def by_mse_loss(net, x0, t, schedule):
    eps = torch.randn(x0.shape)
    return torch.nn.functional.mse_loss(net(schedule.add_noise(x0, eps, t), t), eps)


def point_by_point(net, x0, t, schedule):
    eps = torch.randn(x0.shape)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    return float(((net(alpha * x0 + sigma * eps, t) - eps) ** 2).mean(dim=1).mean())


training_loss = Exercise(
    "05.training_loss",
    r"""Write the loss. `my_loss(net, x0, t, path)` gets a network that guesses the noise (`net(xt, t)` returns a guess of $\varepsilon$), points `x0` of shape (B, D), one level for each, `t` of shape (B,), and the path. It returns the mean squared error of the
    guess, a single number. `path.at(t, x0)` gives $\alpha$ and $\sigma$ in a shape that fits. (The check uses networks whose loss is known: one that knows the only point there is, one that is silent, one that always answers 2.)""",
    hints=[
        "Draw noise once, mix with it, and compare the guess with it.",
        "alpha, sigma = path.at(t, x0); eps = torch.randn_like(x0).",
    ],
    solution=my_loss,
    check=_check_training_loss,
    mistakes={
        "drawn twice": noise_drawn_twice,
        "compared with the data": compared_with_x0,
        "its own level": one_level_for_all,
        "is not mixed as": variance_for_sigma,
        "the mean over them": summed_over_coordinates,
        "Every answer gets": compared_with_itself,
        "and should cost 1, the variance": uniform_noise,
        "Is there a root?": root_of_the_mean,
        "other levels than those": levels_of_its_own,
        "is told other levels": told_the_other_end,
    },
    variants=[by_mse_loss, point_by_point],
)


# the loop

STEPS, SPREAD, LEVEL = 300, 1.5, 0.4


class _Gain(torch.nn.Module):
    """A guess of x0 with one weight: x_t times a gain."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(-0.5))


def _gain_loss(drawn):
    """The loss of a gain on fresh Gaussian data at one level; what was drawn is counted."""
    g = torch.Generator().manual_seed(0)
    alpha, sigma = (f(torch.tensor(LEVEL)).item() for f in (Cosine().alpha, Cosine().sigma))

    def loss(net):
        x0, eps = torch.randn(2, 256, generator=g)
        drawn.append(1)
        return (net.gain * (alpha * SPREAD * x0 + sigma * eps) - SPREAD * x0).square().mean()

    return loss


def _trained(my_training):
    """(expected loss of the trained gain, losses returned, optimiser steps, batches drawn)."""
    net, drawn, moved = _Gain(), [], []
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    optimiser.register_step_post_hook(lambda *_: moved.append(net.gain.item()))
    returned = call(my_training, net, _gain_loss(drawn), optimiser, STEPS)
    alpha, sigma = (f(torch.tensor(LEVEL)).item() for f in (Cosine().alpha, Cosine().sigma))
    k = net.gain.item()
    return (1 - k * alpha) ** 2 * SPREAD**2 + k**2 * sigma**2, returned, moved, drawn


def _check_training_loop(my_training):
    alpha, sigma = (f(torch.tensor(LEVEL)).item() for f in (Cosine().alpha, Cosine().sigma))
    best = my_least_loss(SPREAD, alpha, sigma)
    reached, returned, moved, drawn = _trained(my_training)
    if not drawn:
        raise IncorrectAnswer("The loss is never asked for.")
    if not moved:
        raise IncorrectAnswer("The weights never move: optimiser.step() is missing.")
    if len(drawn) < len(moved):
        raise IncorrectAnswer(
            f"{len(moved)} steps, but only {len(drawn)} fresh losses. Each step needs a batch of its own."
        )
    if len(moved) != STEPS:
        raise IncorrectAnswer(f"{STEPS} steps were asked for, and {len(moved)} were taken.")
    if max(moved) == min(moved) == -0.5:
        raise IncorrectAnswer(
            "The optimiser steps, but without gradients: backward() is missing, or they are forgotten before the step."
        )
    if not abs(reached - best) < 0.01 * best:
        raise IncorrectAnswer(
            f"The loss of the trained network is {reached:.3f}, and the best possible is {best:.3f}. Are old gradients forgotten before each step (zero_grad)? Does the step go downhill?"
        )
    losses = numbers(returned, None, "the list of losses")
    if losses.shape != (STEPS,):
        raise IncorrectAnswer(
            f"The network is trained. Return {STEPS} losses, one for each step; these are {losses.numel()}."
        )
    if abs(losses[-100:].mean().item() - best) > 0.1 * best:
        raise IncorrectAnswer("The network is trained, but the numbers returned are not the losses of its steps.")
    return f"The loss comes down to {reached:.3f}; the best possible is {best:.3f}, and not 0."


def my_training(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def never_forgets(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def forgets_too_late(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        value.backward()
        optimiser.zero_grad()
        optimiser.step()
        losses.append(value.item())
    return losses


def never_steps(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        optimiser.zero_grad()
        value.backward()
        losses.append(value.item())
    return losses


def one_batch(net, loss, optimiser, steps):
    value = loss(net)
    for _ in range(steps):
        optimiser.zero_grad()
        value.backward(retain_graph=True)
        optimiser.step()
    return [value.item()] * steps


def uphill(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        optimiser.zero_grad()
        (-value / 100).backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def one_step_short(net, loss, optimiser, steps):
    return my_training(net, loss, optimiser, steps - 1)


def only_the_last_loss(net, loss, optimiser, steps):
    return my_training(net, loss, optimiser, steps)[-1:]


def returns_the_weights(net, loss, optimiser, steps):
    my_training(net, loss, optimiser, steps)
    return [net.gain.item()] * steps


def gradients_set_to_none_afterwards(net, loss, optimiser, steps):
    losses = torch.zeros(steps)
    for i in range(steps):
        value = loss(net)
        value.backward()
        optimiser.step()
        net.zero_grad(set_to_none=True)
        losses[i] = value.detach()
    return losses


def with_autograd(net, loss, optimiser, steps):
    losses = []
    while len(losses) < steps:
        value = loss(net)
        (net.gain.grad,) = torch.autograd.grad(value, net.gain)
        optimiser.step()
        losses.append(float(value.detach()))
    return tuple(losses)


training_loop = Exercise(
    "05.training_loop",
    r"""Write the training loop. `my_training(net, loss, optimiser, steps)` gets a network, a function that draws a fresh batch and returns the loss of `net` on it (`loss(net)`), an optimiser that holds the network's weights, and a number of steps. It trains `net` in
    place and returns the list of the losses, one number for each step. (The check trains a network of one weight, a gain, to guess Gaussian data at one noise level. There the best possible loss is the formula of the first exercise. It is not 0, and your loop must come within a
    hundredth of it.)""",
    hints=[
        "Four things happen in each step, three of them with the optimiser: forget the old gradients, ask for the loss, find the new gradients, move.",
        "optimiser.zero_grad(), loss(net), value.backward(), optimiser.step(), in this order. value.item() is the number.",
    ],
    solution=my_training,
    check=_check_training_loop,
    mistakes={
        "Are old gradients forgotten": never_forgets,
        "without gradients": forgets_too_late,
        "The weights never move": never_steps,
        "a batch of its own": one_batch,
        "Does the step go downhill": uphill,
        "were taken": one_step_short,
        "one for each step; these are 1": only_the_last_loss,
        "not the losses of its steps": returns_the_weights,
    },
    variants=[gradients_set_to_none_afterwards, with_autograd],
    seconds=30,
)
