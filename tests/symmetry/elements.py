"""The change of a function under random elements of a group, without the code that proves specs."""

import copy

import torch
from torch.utils._pytree import tree_leaves

from symport.spec import Permutation, permute

SPREAD = 0.3  # of what is added to fresh weights, whose gains of one and biases of zero hide faults


def largest_change(net, spec, *inputs, draws=4, select=None, **named):
    """The relative change of all outputs under random elements of the group, in float64.

    Weights are drawn around those of the network, which is left in evaluation mode and float64.
    """
    net = net.eval().double()
    inputs, named = [_double(x) for x in inputs], {k: _double(x) for k, x in named.items()}
    generator = torch.Generator().manual_seed(1)
    for tensor in dict.fromkeys(net.parameters()):
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.data += SPREAD * noise * max(float(tensor.detach().abs().mean()), 0.1)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def outputs():
        found = copy.deepcopy(net)(*inputs, **named)  # some write to their weights as they run
        leaves = tree_leaves(dict(found) if isinstance(found, dict) else found)
        leaves = leaves if select is None else [select(found)]
        return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]

    worst = 0.0
    with torch.no_grad():
        before = outputs()
        assert before
        for seed in range(draws):
            element = Permutation.random(spec, torch.Generator().manual_seed(seed))
            net.load_state_dict(permute(state, spec, element))
            for a, b in zip(outputs(), before, strict=True):
                worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    net.load_state_dict(state)
    return worst


def _double(x):
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
