"""Transfer a training run on digits to another seed, with 20 labels. A few seconds on a CPU."""

import torch
from torch.nn.functional import cross_entropy

import symport
from symport.methods import Identity
from symport.model import train_directly
from symport_recipes.demo import scene


def main() -> None:
    torch.set_num_threads(1)
    at = scene(labels=20)
    spec = symport.discover(at.model, at.hand.inputs)
    print(spec, end="\n\n")

    source = symport.Trajectory.linear(at.source_init, at.source_final, steps=10)
    gradient = symport.LossGradient(at.model, cross_entropy, at.batches)
    result = symport.transfer(source, at.target_init, spec, symport.FGMT(gradient))
    identity = symport.transfer(source, at.target_init, spec, Identity())
    direct = train_directly(gradient, at.target_init, steps=200)
    for name, params in {
        "untouched": at.target_init,
        "identity": identity.params,
        "transfer": result.params,
        "direct training": direct,
        "source": at.source_final,
    }.items():
        print(f"{name:18} {at.accuracy(params):6.1%}")


if __name__ == "__main__":
    main()
