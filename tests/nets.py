"""A tiny real network with data, shared by the tests of the transfer loop."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from symport.data import Labelled
from symport.model import LossGradient
from symport.params import Params
from symport.spec import Permutation, PermutationSpec, permute
from symport.trajectory import LinearTrajectory, Trajectory


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(),
                             nn.Linear(6, 3))  # fmt: skip


def weights(seed: int) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in net(seed).state_dict().items()}


def spec() -> PermutationSpec:
    patterns = {
        "0.weight": "a .", "0.bias": "a", "2.weight": "b a", "2.bias": "b",
        "4.weight": ". b", "4.bias": ".",
    }  # fmt: skip
    return PermutationSpec.parse(patterns, weights(0))


def examples(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


def gradient(seed: int = 0, count: int = 1) -> LossGradient:
    batches = [examples(seed=seed + k) for k in range(count)]
    return LossGradient(net(), functional.cross_entropy, batches)


def trained(params: dict[str, Tensor], steps: int = 40) -> dict[str, Tensor]:
    """Plain gradient descent, written out."""
    slope = gradient()
    for _ in range(steps):
        grads = slope(params, 0)
        params = {name: tensor - 0.3 * grads[name] for name, tensor in params.items()}
    return params


def source(steps: int = 5) -> LinearTrajectory:
    return Trajectory.linear(weights(1), trained(weights(1)), steps)


def planted_target() -> tuple[dict[str, Tensor], Permutation]:
    """The source's initialization in another order."""
    permutation = Permutation.random(spec(), torch.Generator().manual_seed(7))
    return permute(weights(1), spec(), permutation), permutation


def accuracy(params: Params) -> float:
    inputs, labels = examples(seed=99, count=200)
    model = net()
    model.load_state_dict(dict(params))
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).double().mean())


def batch_norm_net(seed: int = 0) -> nn.Sequential:
    """BatchNorm and dropout, both of which behave otherwise in training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5),
                             nn.Linear(8, 3))  # fmt: skip


def labelled(count: int = 60, seed: int = 0) -> Labelled:
    return Labelled(*examples(count, seed))


def same(a: Params, b: Params) -> bool:
    """The same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
