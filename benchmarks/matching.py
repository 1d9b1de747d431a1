"""Compare symport's matching with the plain loop of the paper, both measured in this run.

    python benchmarks/matching.py [mlp] [conv8] [resnet18] [weights] [share] [--threads 1]

For each workload (gradient-like data with dead units, see workloads.py): the time of all matching
of an FGMT run, where each step starts from the previous permutation; its ratio to the plain loop;
the relative difference of the final objectives in float64 (positive if ours is higher); and the
peak memory of each, including the stored pairs. `weights` is weight matching of two ResNet-18s.
`share` runs FGMT on a real ResNet-18 with 128×2 images of 64×64 per step (a fifteenth of the
gradient work of 224×224) and reports the share of the transfer that is not gradient work.

Operation counts: the plain loop needs 4·T²/2 multiplications per weight and sweep; ours adds each
pair once (4 per weight) and then updates only what has changed.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from plain import evaluate, match_plain
from torch.nn.functional import cross_entropy
from workloads import Workload, conv8, mlp, resnet18

import symport
from symport.matching import Pair, Similarity, match, solve, solve_with_restart
from symport_recipes.networks import initial
from symport_recipes.networks import resnet18 as resnet18_model

WORKLOADS = {"mlp": mlp, "conv8": conv8, "resnet18": resnet18}
SHARE_STEPS, SHARE_SAMPLES, SHARE_PIXELS = 15, 256, 64


def ours(work: Workload) -> tuple[float, symport.spec.Permutation]:
    similarity = Similarity(work.spec)
    seconds = 0.0
    for step, (target, source) in enumerate(work.pairs()):
        begun = time.perf_counter()
        pair = Pair(target, source)
        similarity.add(pair)
        if step == 0:
            solve_with_restart(similarity, [pair])
        else:
            solve(similarity)
        seconds += time.perf_counter() - begun
    return seconds, similarity.permutation


def plain(work: Workload) -> tuple[float, symport.spec.Permutation]:
    result = match_plain(work.pairs(), work.spec)
    return result.similarity_seconds + result.solve_seconds, result.permutations[-1]


def one(name: str, which: str, threads: int) -> tuple[float, float, float]:
    """Seconds, objective and peak memory in MiB of one of the two, in a process of its own."""
    torch.set_num_threads(threads)
    symport.match(  # compile before the clock runs
        symport.PermutationSpec.parse({"w": "a b"}, sizes={"a": 200, "b": 200}),
        [Pair({"w": torch.eye(200)}, {"w": torch.eye(200).flip(0)})],
    )
    work = WORKLOADS[name]()
    seconds, permutation = {"ours": ours, "plain": plain}[which](work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    objective = sum(evaluate([pair], work.spec, permutation) for pair in work.pairs())
    return seconds, objective, peak


def alone(function: Callable[..., Any], *args: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def compare(name: str, threads: int) -> None:
    own, own_objective, own_peak = alone(one, name, "ours", threads)
    seconds, objective, peak = alone(one, name, "plain", threads)
    print(
        f"{name:9} T={WORKLOADS[name]().steps:2}  plain {seconds:6.1f} s  ours {own:6.1f} s  "
        f"ratio {seconds / own:5.1f}  objective {(own_objective - objective) / objective:+.1e}  "
        f"peak {peak:.0f} -> {own_peak:.0f} MiB",
        flush=True,
    )


def weights() -> None:
    """Weight matching of two ResNet-18s on one core."""
    torch.set_num_threads(1)
    a, b = (initial(resnet18_model, seed) for seed in (0, 1))
    spec = symport.discover(resnet18_model().eval(), torch.zeros(1, 3, 64, 64))
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        found = match(spec, symport.matching.weights(a, b, spec))
        times.append(time.perf_counter() - begun)
    median = sorted(times)[len(times) // 2]
    print(
        f"weights   two ResNet-18s, one core: {median:.2f} s (median of 5), {found.solves} solves"
    )


def share(threads: int) -> None:
    """The part of an FGMT transfer of ResNet-18 that is not gradients."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    shape = (SHARE_SAMPLES, 3, SHARE_PIXELS, SHARE_PIXELS)
    batches = [
        (
            torch.randn(shape, generator=generator),
            torch.randint(1000, (SHARE_SAMPLES,), generator=generator),
        )
        for _ in range(2)
    ]
    model = resnet18_model()
    start, end, target = (initial(resnet18_model, seed) for seed in (0, 1, 2))
    spec = symport.discover(model, batches[0][0][:2])
    gradient = symport.LossGradient(model, cross_entropy, batches)
    source = symport.Trajectory.linear(start, end, SHARE_STEPS)
    begun = time.perf_counter()
    symport.transfer(source, target, spec, symport.FGMT(gradient))
    whole = time.perf_counter() - begun
    rest = whole - gradient.elapsed_seconds
    print(
        f"share     ResNet-18, T={SHARE_STEPS}, {SHARE_SAMPLES} images of {SHARE_PIXELS}² a step: "
        f"{whole:.0f} s, of which not gradients {rest:.0f} s = {rest / whole:.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    everything = [*WORKLOADS, "weights", "share"]
    parser.add_argument("what", nargs="*", default=everything, metavar="|".join(everything))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    for name in options.what:
        if name in WORKLOADS:
            compare(name, options.threads)
        elif name == "weights":
            weights()
        elif name == "share":
            share(options.threads)
        else:
            parser.error(f"{name}: choose from {', '.join(everything)}")


if __name__ == "__main__":
    main()
