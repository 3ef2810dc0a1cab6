"""Chapter 05, Can a small network learn it?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, differentiable, noise_of_its_own, numbers
from learn_diffusion.schedules import Cosine

# the least possible loss


def my_least_loss(s, alpha, sigma):
    return s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)


GAUSSIANS = [(0.5, 0.8, 0.6), (2.0, 0.3, 0.9), (1.0, 0.6, 0.8)]


def _check_least_loss(my_least_loss):
    draws = torch.randn(2, 1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for s, alpha, sigma in GAUSSIANS:
        x0, xt = s * draws[0], alpha * s * draws[0] + sigma * draws[1]
        measured = (x0 - (x0 @ xt) / (xt @ xt) * xt).square().mean().item()
        if abs(numbers(call(my_least_loss, s, alpha, sigma), ()) - measured) > 0.01 * measured:
            raise IncorrectAnswer(f"With s = {s} the best guess among a million pairs leaves {measured:.3f}.")


Exercise(
    "05.least_loss",
    r"""How small can it get? Data is Gaussian with mean 0 and standard deviation `s`, noised to $x_t = \alpha x_0 + \sigma\varepsilon$. Write `my_least_loss(s, alpha, sigma)` (three numbers): the mean squared
    error of the best possible guess of $x_0$. That guess is a gain times $x_t$: the gain stands in the perfect denoiser above, in the line `inside`, for a blob of that width whose centre is 0. The error is what is left, $x_0$ minus the guess. (The check draws a million pairs and lets regression find the best guess.)""",
    hints=[
        "The best guess is linear: gain times x_t. Which gain makes the squared error least?",
        "gain = alpha s^2 / (alpha^2 s^2 + sigma^2).",
        "What is left is s^2 minus gain times alpha s^2. Simplify: two terms in the denominator, two squares above.",
    ],
    solution=my_least_loss,
    inputs=GAUSSIANS,
    result="the least loss",
    check=_check_least_loss,
    mistakes={
        "That is the scatter of the data: the loss of someone who does not look at x_t at all.": (
            lambda s, alpha, sigma: s**2
        ),
        "Not 0: x_t does not determine x_0.": lambda s, alpha, sigma: 0.0,
        "That is the error of x_t / alpha as a guess. A better one uses that the data has spread s.": (
            lambda s, alpha, sigma: (sigma / alpha) ** 2
        ),
        "That is the noise in x_t. The guess can use what is known about the data, too.": (
            lambda s, alpha, sigma: sigma**2
        ),
        "This is the share of the variance that is known. What is left over?": lambda s, alpha, sigma: (
            alpha**2 * s**2 / (alpha**2 * s**2 + sigma**2)
        ),
        "Nearly: this is the least loss in units of the data's variance. Multiply by s^2.": lambda s, alpha, sigma: (
            sigma**2 / (alpha**2 * s**2 + sigma**2)
        ),
        "This is its root. The loss is the mean of the *squared* error.": lambda *args: my_least_loss(*args) ** 0.5,
        "The data in x_t has been shrunk by alpha: its variance there is alpha^2 s^2.": lambda s, alpha, sigma: (
            my_least_loss(s, 1, sigma)
        ),
        "This is how much the guess explains; the loss is the rest of s^2.": lambda s, alpha, sigma: (
            s**2 - my_least_loss(s, alpha, sigma)
        ),
        "This is the least loss of a guess of the noise, divided by alpha^2. You want that of x_0.": (
            lambda s, alpha, sigma: s**2 / (alpha**2 * s**2 + sigma**2)
        ),
        "Variances add, not deviations: the best guess among a million pairs leaves {expected:.3f}, not {got:.3f}.": (
            lambda s, alpha, sigma: (s * sigma / (alpha * s + sigma)) ** 2
        ),
    },
    variants=[lambda s, alpha, sigma: torch.tensor(1 / (1 / s**2 + alpha**2 / sigma**2))],
    right="It agrees with the best guess among a million pairs.",
)

# one step's loss


def my_loss(net, x0, t, schedule):
    alpha, sigma = schedule.at(t, x0)
    eps = torch.randn_like(x0)
    return (net(alpha * x0 + sigma * eps, t) - eps).square().mean()


def _squares(net, x0, t, schedule, *, told=None, noise=torch.randn_like, power=1, target=lambda x0, eps, guess: eps):
    """The squared errors, before the mean."""
    alpha, sigma = schedule.at(t, x0)
    eps = noise(x0)
    guess = net(alpha * x0 + sigma**power * eps, t if told is None else told)
    return (guess - target(x0, eps, guess)).square()


def _loss(**changes):
    return lambda *args: _squares(*args, **changes).mean()


def levels_of_its_own(net, x0, t, schedule):
    return my_loss(net, x0, torch.rand(len(x0)).clamp(0.01, 0.99), schedule)


def by_mse_loss(net, x0, t, schedule):
    eps = torch.randn(x0.shape)
    return torch.nn.functional.mse_loss(net(schedule.add_noise(x0, eps, t), t), eps)


def point_by_point(net, x0, t, schedule):
    eps = torch.randn(x0.shape)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    return ((net(alpha * x0 + sigma * eps, t) - eps) ** 2).mean(dim=1).mean()


def in_two_halves(net, x0, t, schedule):
    halves = zip(x0.chunk(2), t.chunk(2), strict=True)
    return sum(my_loss(net, x, s, schedule) for x, s in halves) / 2


POINT = torch.tensor([[1.5, -0.5, 2.0]])


def knows(xt, t):
    alpha, sigma = Cosine().at(t, xt)
    return (xt - alpha * POINT) / sigma


def told_09(xt, t):
    return 0 * xt + 10 * (torch.as_tensor(t).reshape(-1, 1) - 0.9)  # silent where the level is 0.9


NETS = {
    knows: "The exact answer",
    lambda xt, t: 0 * xt: "Silence",
    lambda xt, t: 0 * xt + 2: "Always answering 2",
    told_09: "Silence at one level for all",
}


def _can_train(loss):
    """Asks what no silent network can: whether the noise is new everywhere, and whether there is a gradient."""
    seen, weight = [], torch.ones((), requires_grad=True)
    t = torch.linspace(0.1, 0.9, 2000)

    def net(xt, t):  # asked for all points in one call, or in several
        seen.append(knows(xt.detach(), torch.as_tensor(t)))
        return weight * xt

    differentiable(call(loss, net, POINT.expand(2000, 3), t, Cosine()))
    noise_of_its_own(torch.cat(seen), ("points of the batch", "coordinates of a point"))


def _questions():
    t = torch.linspace(0.1, 0.9, 2000)
    return [(net, POINT.expand(2000, 3), t if net is not told_09 else 0 * t + 0.9, Cosine()) for net in NETS]


Exercise(
    "05.training_loss",
    r"""Write the loss. `my_loss(net, x0, t, schedule)` gets a network that guesses the noise (`net(xt, t)` returns a guess of $\varepsilon$), points `x0` of shape (B, D), one level for each, `t` of shape (B,), and the schedule. It returns the mean squared error of the
    guess, a single number. `schedule.at(t, x0)` gives $\alpha$ and $\sigma$ in a shape that fits. (The check uses networks whose loss is known: one that knows the only point there is, one that is silent, one that always answers 2.)""",
    hints=[
        "Draw noise once, mix with it, and compare the guess with it.",
        "alpha, sigma = schedule.at(t, x0); eps = torch.randn_like(x0).",
    ],
    solution=my_loss,
    inputs=_questions,
    check=_can_train,
    result="the loss",
    key=lambda loss: (loss + 1e-5).log(),  # 0 to about 1e-5, the others to ten per cent: noise is drawn
    tolerance=0.1,
    mistakes={
        "The network is told other levels than those that came with the call.": [
            levels_of_its_own,
            lambda net, x0, t, schedule: _squares(net, x0, t, schedule, told=1 - t).mean(),
        ],
        "Every answer gets a loss of 0. The network can learn nothing from that.": _loss(
            target=lambda x0, eps, guess: guess.detach()
        ),
        "Exact answers cost nothing, but silence costs {got:.2f}, the number of coordinates: take the mean over them, too.": (
            lambda *args: _squares(*args).sum(dim=1).mean()
        ),
        "Exact answers cost nothing, but silence costs {got:.2f}, and should cost 1, the variance of the noise.": _loss(
            noise=torch.rand_like
        ),
        "Exact answers cost nothing and silence costs 1, but always answering 2 costs {got:.2f}, and should cost 5: the mean "
        "of the *squares* of 2 - eps. Is there a root?": lambda *args: my_loss(*args).sqrt(),
        "points of the batch get the same noise": _loss(noise=lambda x0: torch.randn(1, x0.shape[1]).expand_as(x0)),
        "coordinates of a point get the same noise": _loss(noise=lambda x0: torch.randn(len(x0), 1).expand_as(x0)),
        "backward() cannot start from it": [torch.no_grad()(my_loss), lambda *args: my_loss(*args).item()],
        "The guess is compared with the data. It is a guess of the noise.": _loss(target=lambda x0, eps, guess: x0),
        "The exact answer costs {got:.2f} and should cost 0. Is noise drawn twice?": _loss(
            target=lambda x0, eps, guess: torch.randn_like(x0)
        ),
        "Where all levels are equal it is right, and where they differ it is not: each point has to be mixed at its own "
        "level.": lambda net, x0, t, schedule: _squares(net, x0, t[0], schedule, told=t).mean(),
        "The exact answer costs {got:.2f} and should cost 0: x_t is not mixed as alpha x0 + sigma eps.": [
            _loss(power=2),
            _loss(power=0.5),
            lambda net, x0, t, schedule: _squares(net, x0, 1 - t, schedule, told=t).mean(),  # alpha for sigma
        ],
    },
    variants=[by_mse_loss, in_two_halves, point_by_point],
    right="Exact answers cost nothing, and silence costs 1, the variance of the noise.",
    otherwise=lambda got, expected, net, *args: f"{NETS[net]} costs {got:.2f} and should cost {expected:.0f}.",
)

# the loop

STEPS, SPREAD, LR = 300, 1.5, 0.05


def my_training(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        total = 0.0
        for _ in range(2):
            half = loss(net) / 2
            half.backward()  # adds to the gradients that are there
            total += half.item()
        optimiser.step()
        losses.append(total)
    return losses


def _in_order(*actions):
    """A training loop that does these in each step, with the mean of two losses."""

    def train(net, loss, optimiser, steps):
        losses = []
        for _ in range(steps):
            value = (loss(net) + loss(net)) / 2
            do = {"forget": optimiser.zero_grad, "down": value.backward, "up": (-value / 100).backward}
            do["move"] = optimiser.step
            for action in actions:
                do[action]()
            losses.append(value.item())
        return losses

    return train


def by_halves(*, between=(), weight=0.5):
    """The gradients of one batch after the other; between them the optimiser does something."""

    def train(net, loss, optimiser, steps):
        losses = []
        for _ in range(steps):
            optimiser.zero_grad()
            first = loss(net)
            (weight * first).backward()
            for action in between:
                getattr(optimiser, action)()
            second = loss(net)
            (weight * second).backward()
            optimiser.step()
            losses.append((first + second).item() / 2)
        return losses

    return train


def one_batch_a_step(net, loss, optimiser, steps):
    losses = []
    for _ in range(steps):
        value = loss(net)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def one_batch(net, loss, optimiser, steps):
    value = loss(net)
    for _ in range(steps):
        optimiser.zero_grad()
        value.backward(retain_graph=True)
        optimiser.step()
    return [value.item()] * steps


def with_autograd(net, loss, optimiser, steps):
    losses = []
    while len(losses) < steps:
        value = (loss(net) + loss(net)) / 2
        (net.gain.grad,) = torch.autograd.grad(value, net.gain)
        optimiser.step()
        losses.append(float(value.detach()))
    return tuple(losses)


def _check_training(my_training):
    alpha, sigma = (x.item() for x in Cosine().at(torch.tensor(0.4), torch.zeros(())))
    net, drawn, moved = torch.nn.Module(), [], []
    net.gain = torch.nn.Parameter(torch.tensor(-0.5))  # x0 is guessed as gain times x_t
    optimiser = torch.optim.SGD(net.parameters(), lr=LR)
    optimiser.register_step_post_hook(lambda *_: moved.append(net.gain.item()))

    def loss(net):
        x0, eps = torch.randn(2, 256, generator=g)
        drawn.append(1)
        return (net.gain * (alpha * SPREAD * x0 + sigma * eps) - SPREAD * x0).square().mean()

    g = torch.Generator().manual_seed(0)
    mean_of_two = (loss(net) + loss(net)) / 2
    right_move = -LR * torch.autograd.grad(mean_of_two, net.gain)[0].item()
    drawn.clear()
    g.manual_seed(0)
    returned = call(my_training, net, loss, optimiser, STEPS)
    gain, best = net.gain.item(), my_least_loss(SPREAD, alpha, sigma)
    reached = (1 - gain * alpha) ** 2 * SPREAD**2 + gain**2 * sigma**2
    if not drawn:
        raise IncorrectAnswer("The loss is never asked for.")
    if not moved:
        raise IncorrectAnswer("The weights never move: optimiser.step() is missing.")
    if len(moved) != STEPS:
        raise IncorrectAnswer(
            f"{STEPS} steps were asked for, and {len(moved)} were taken. A step is one move, after both batches."
        )
    if len(drawn) != 2 * STEPS:
        raise IncorrectAnswer(
            f"{STEPS} steps, and {len(drawn)} fresh losses. Each step needs two fresh batches of its own."
        )
    if set(moved) == {-0.5}:
        raise IncorrectAnswer(
            "The optimiser steps, but without gradients: backward() is missing, or they are forgotten before the step."
        )
    share = (moved[0] + 0.5) / right_move  # below 0: uphill
    if share > 0 and abs(share - 1) > 1e-3:
        raise IncorrectAnswer(
            f"The first move is {share:.2f} times what it should be, along the mean of both gradients. They add up by "
            "themselves where nobody forgets them in between; then halve them."
        )
    if not abs(reached - best) < 0.01 * best:
        raise IncorrectAnswer(
            f"The loss of the trained network is {reached:.3f}, and the best possible is {best:.3f}. Are old gradients "
            "forgotten before each step (zero_grad)? Does the step go downhill?"
        )
    losses = numbers(returned, None, "the list of losses")
    if losses.shape != (STEPS,):
        raise IncorrectAnswer(
            f"The network is trained. Return {STEPS} losses, one for each step; these are {losses.numel()}."
        )
    if abs(losses[-100:].mean().item() - best) > 0.1 * best:
        raise IncorrectAnswer(
            "The network is trained, but the numbers returned are not the losses of its steps: the mean of each two."
        )
    return f"The loss comes down to {reached:.3f}; the best possible is {best:.3f}, and not 0."


def gradients_set_to_none_afterwards(net, loss, optimiser, steps):
    losses = torch.zeros(steps)
    for i in range(steps):
        value = torch.stack([loss(net), loss(net)]).mean()
        value.backward()
        optimiser.step()
        net.zero_grad(set_to_none=True)
        losses[i] = value.detach()
    return losses


Exercise(
    "05.training_loop",
    r"""Write a training loop that looks at two batches before each move. This is done where one large batch does not fit into memory: `backward()` *adds* to the gradients that are there already, so that they can be collected. `my_training(net, loss, optimiser, steps)` gets a network, a function that draws a fresh batch and returns the loss of `net` on it (`loss(net)`), an optimiser that holds the network's weights, and a number of steps. In each step it moves once, along the *mean* of the gradients of two fresh batches. It trains `net` in
    place and returns the list of the losses, one number for each step: the mean of the two. (The check trains a network of one weight, a gain, to guess Gaussian data at one noise level. There the best possible loss is the formula of the first exercise. It is not 0, and your loop must come within a
    hundredth of it.)""",
    hints=[
        "In each step: forget the old gradients once, then ask for a loss and find its gradients, twice, then move once.",
        "The gradients of two losses add up. For their mean, take those of half of each loss: (loss(net) / 2).backward().",
        "optimiser.zero_grad(), twice (loss(net) / 2).backward(), optimiser.step(), in this order. half.item() is a number.",
    ],
    solution=my_training,
    check=_check_training,
    mistakes={
        "The loss is never asked for": lambda *args: [0.0] * STEPS,
        "The weights never move": _in_order("forget", "down"),
        "two fresh batches of its own": [one_batch, one_batch_a_step],
        "were taken": [
            lambda net, loss, optimiser, steps: my_training(net, loss, optimiser, steps - 1),
            by_halves(between=["step", "zero_grad"], weight=1),
        ],
        "times what it should be": [by_halves(weight=1), by_halves(between=["zero_grad"])],
        "without gradients": _in_order("down", "forget", "move"),
        "Are old gradients forgotten": [_in_order("down", "move"), _in_order("forget", "up", "move")],
        "one for each step; these are 1": lambda *args: my_training(*args)[-1:],
        "not the losses of its steps": [
            lambda net, *args: [x * 0 for x in my_training(net, *args)],
            lambda net, *args: [x * 2 for x in my_training(net, *args)],
        ],
    },
    variants=[gradients_set_to_none_afterwards, with_autograd, by_halves()],
    seconds=30,
)
