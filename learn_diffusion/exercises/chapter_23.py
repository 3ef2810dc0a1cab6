"""Chapter 23, When does it copy?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise

# the share of copies


def your_copied(drawn, train, share=1 / 3):
    train = train.flatten(1).unique(dim=0)
    far = torch.cdist(drawn.flatten(1), train)
    first, second = far.topk(2, dim=1, largest=False).values.T
    return (first < share * second).double().mean()


def _copied(distance=torch.cdist, by_train=False, both=(0, 1), unique=True, rule=None):
    """With another distance, another pair of neighbours, other originals, or another rule."""

    def answer(drawn, train, share=1 / 3):
        train = train.flatten(1).unique(dim=0) if unique else train.flatten(1)
        far = distance(drawn.flatten(1), train)
        near = (far.T if by_train else far).sort(dim=1).values
        first, second = near[:, both].T
        return rule(first, second, share) if rule else (first < share * second).double().mean()

    return answer


def _by_loop(drawn, train, share=1 / 3):
    originals = []
    for picture in train:
        if not any(torch.equal(picture, other) for other in originals):
            originals.append(picture)
    copies = 0
    for picture in drawn:
        far = sorted(float((picture - other).square().sum().sqrt()) for other in originals)
        copies += far[0] < share * far[1]
    return copies / len(drawn)


def _drawn():
    """Twelve originals, three of them several times; exact and near copies of all kinds, and pictures of their own."""
    g = torch.Generator().manual_seed(0)
    originals = torch.randn(12, 1, 3, 3, generator=g)
    train = torch.cat([originals, originals[[0, 0, 1, 2]]])[torch.randperm(16, generator=g)]
    near = originals[[0, 1, 2, 5, 6]] + 0.2 * torch.randn(5, 1, 3, 3, generator=g)
    level = torch.linspace(0.3, 1.2, 36).view(36, 1, 1, 1)
    middling = originals[3:].repeat(4, 1, 1, 1) + level * torch.randn(36, 1, 3, 3, generator=g)
    return [(torch.cat([near, middling, torch.randn(4, 1, 3, 3, generator=g)]), train, 1 / 3),
            (torch.cat([middling, originals[:1]]), train, 0.6)]  # fmt: skip


Exercise(
    "23.copied",
    """Write the detector, for a training set that is not clean. `drawn` (N, C, H, W) are pictures that a model drew, `train` (M, C, H, W) is what it was trained on; **some of its pictures are in it several times**, exactly equal. Remove the repeats. Then a picture is a copy when its distance to the nearest
    training picture is below `share` times the distance to the second nearest. Distances are Euclidean, over all values of a picture. `your_copied(drawn, train, share)` returns the share of copies among the drawn, from 0 to 1.""",
    hints=[
        "First remove repeated pictures: train.flatten(1).unique(dim=0) keeps one of each.",
        "torch.cdist(drawn.flatten(1), train) holds all distances, (N, M).",
        ".topk(2, dim=1, largest=False).values are the nearest and the second nearest.",
    ],
    solution=your_copied,
    inputs=_drawn,
    mistakes={
        "A picture that is in the training set twice is its own rival: copies of it never count. Remove repeated pictures first.": (
            _copied(unique=False)
        ),
        "These are squared distances: take the root, or square the share.": _copied(
            distance=lambda a, b: torch.cdist(a, b) ** 2
        ),
        "This counts the *training* pictures that something was drawn near to. Count the drawn ones.": _copied(
            by_train=True
        ),
        "The rival is the third nearest: the second nearest has index 1.": _copied(both=(0, 2)),
        "Upside down: this counts what is not a copy.": _copied(
            rule=lambda first, second, share: (first >= share * second).double().mean()
        ),
        "This compares the distance itself with `share`. What is near depends on the pictures: compare with the second nearest.": (
            _copied(rule=lambda first, second, share: (first < share).double().mean())
        ),
        "This is the mean ratio. Count how many are below `share`.": _copied(
            rule=lambda first, second, share: (first / second).mean()
        ),
        "This is a number of pictures; divide by how many were drawn.": _copied(
            rule=lambda first, second, share: (first < share * second).double().sum()
        ),
        "The Euclidean distance is asked for, and not the sum of absolute differences.": _copied(
            distance=lambda a, b: torch.cdist(a, b, p=1)
        ),
        "`share` is given: this always uses a third.": _copied(
            rule=lambda first, second, share: (first < second / 3).double().mean()
        ),
    },
    variants=[_by_loop, _copied()],
    result="the share",
    right="{got:.0%} are copies. Repeated pictures are what models copy first, so a detector must not be blind to them.",
)

# who was in the training set?


def your_auc(members, others):
    lower = (members[:, None] < others).double()
    ties = (members[:, None] == others).double()
    return (lower + ties / 2).mean()


def _by_ranks(members, others):
    both = torch.cat([members, others])
    rank = torch.stack([(both < x).sum() + ((both == x).sum() + 1) / 2 for x in both])
    n, m = len(members), len(others)
    return 1 - (rank[:n].sum() - n * (n + 1) / 2) / (n * m)


def _threshold(members, others):
    """The best accuracy of one threshold."""
    cuts = torch.cat([members, others])
    return torch.stack([((members <= cut).double().mean() + (others > cut).double().mean()) / 2 for cut in cuts]).max()


def _paired(members, others):
    n = min(len(members), len(others))
    return (members[:n] < others[:n]).double().mean()


def _losses():
    g = torch.Generator().manual_seed(0)
    members, others = torch.rand(9, generator=g), 0.3 + torch.rand(12, generator=g)
    tied = (10 * members).round() / 10, (10 * others).round() / 10
    return [tied, (members, others)]


Exercise(
    "23.membership",
    """Somebody has a picture, and your model, and asks: was it trained on this? A loss that is low for this picture says yes. `members` (N,) are losses of training pictures, `others` (M,) losses of pictures that the model never saw. `your_auc(members, others)` returns how well losses tell the two apart: the
    share of all N times M pairs (one of each) in which the member's loss is the **lower** one. Where the two are equal, the pair counts one half. 0.5 means that losses say nothing, 1 that they give every member away.""",
    hints=[
        "members[:, None] < others compares all pairs, (N, M).",
        "Pairs with equal losses: members[:, None] == others. Half of their share is added.",
    ],
    solution=your_auc,
    inputs=_losses,
    mistakes={
        "Pairs with equal losses count one half; here they count nothing.": lambda members, others: (
            (members[:, None] < others).double().mean()
        ),
        "Pairs with equal losses count one half; here they count fully.": lambda members, others: (
            (members[:, None] <= others).double().mean()
        ),
        "The wrong way round: the *member* should have the lower loss.": lambda members, others: (
            1 - your_auc(members, others)
        ),
        "Only pairs of the same row are compared. Compare every member with every other: members[:, None].": _paired,
        "This is how often the best threshold is right. The share of pairs needs no threshold.": _threshold,
        "This compares the two means, and answers yes or no.": lambda members, others: (
            members.mean() < others.mean()
        ).double(),
        "This is a number of pairs; divide by N M.": lambda members, others: (
            your_auc(members, others) * len(members) * len(others)
        ),
    },
    variants=[_by_ranks],
    result="the share of pairs",
    right="{got:.2f}: known as the area under the ROC curve (AUC). A model can be far from copying, and still give its members away.",
)
