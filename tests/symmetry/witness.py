"""Whether a spec is right, found out without the proof that the library has.

All weights and statistics of a copy are drawn anew, in float64; the spec's random elements are
loaded into it and the outputs compared. A wrong spec is a group with a smaller one in it, of half
its size or less, so a random element shows it at least every other time.
"""

import copy

import torch
from torch.utils._pytree import tree_leaves, tree_map

from symport.spec import Permutation, permute

ROUNDING = 1e-11


def in_double(value):
    is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if is_real else value


def drawn(net, seed, sign=0):
    """A copy in float64 whose weights and running statistics are random, none of them zero.

    With a sign all are positive or all negative, so that a ReLU passes all or nothing.
    """
    net = copy.deepcopy(net).double().eval()
    generator = torch.Generator().manual_seed(seed)
    moving = {id(b): name for name, b in net.named_buffers() if "running_" in name}
    with torch.no_grad():
        for tensor in [*net.parameters(), *(b for b in net.buffers() if id(b) in moving)]:
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if sign:
                noise = sign * noise.abs()
            if tensor.is_complex():
                noise = torch.complex(noise, noise.flip(-1) - 0.3)
            if "var" in moving.get(id(tensor), ""):
                tensor.copy_(0.5 + noise.abs())
            else:
                tensor.copy_(
                    noise * 1.2 / max(1, tensor[0].numel() if tensor.ndim > 1 else 1) ** 0.5
                )
    return net


def outputs(net, inputs, select=None):
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        result = net(*tree_map(in_double, args))
    leaves = tree_leaves(result if select is None else select(result))
    return [x for x in leaves if isinstance(x, torch.Tensor)]


def change(a, b):
    """The largest difference relative to the largest entry."""
    if not a.is_floating_point() and not a.is_complex():
        return 0.0 if torch.equal(a, b) else 1.0
    if not torch.equal(a.isnan(), b.isnan()):
        return 1.0
    a, b = a.nan_to_num(), b.nan_to_num()
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-300)) if a.numel() else 0.0


def largest_change(net, spec, inputs, *, elements=4, seed=0, select=None, sign=0):
    """The largest relative change of any output under some random elements of the spec."""
    net = drawn(net, seed, sign)
    before = outputs(net, inputs, select)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.Generator().manual_seed(seed + 1)
    largest = 0.0
    for _ in range(elements):
        net.load_state_dict(permute(state, spec, Permutation.random(spec, generator)))
        after = outputs(net, inputs, select)
        largest = max([largest, *(change(a, b) for a, b in zip(before, after, strict=True))])
    return largest


def is_symmetry(net, spec, inputs, *, elements=32, select=None):
    """Whether all of a spec's group leaves the function as it is; fails if that is unclear."""
    largest = largest_change(net, spec, inputs, elements=elements, select=select)
    assert largest < ROUNDING or largest > 1e-6, largest
    return largest < ROUNDING
