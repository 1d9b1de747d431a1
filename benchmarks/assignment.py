"""Time the warm-started assignment against scipy's on similarities that drift.

At each step, one more gradient-like pair is added to the similarity, and the assignment is solved,
starting from the previous solution (at first from the identity): by scipy, by `assign`, and by
`assign` without numba. All three run in turn on the same matrix, and their values must agree. Times
are milliseconds of this thread, medians over steps and sequences. These matrices are easy for
scipy: with those of a Conv8 trained for 350 steps on CIFAR-10 (effective rank 2), at n = 512, it
took 80 ms, four times as long, and `assign` 6 ms.

    python benchmarks/assignment.py [sizes ...]
"""

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from unittest.mock import patch

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from workloads import build

from symport.matching import TIE_BREAK, assign
from symport.matching import _assignment as assignment

SIZES = (64, 256, 512, 1024)
STEPS = 20
SEEDS = (0, 1)
WIDTH = 576  # columns of the one tensor: 64 channels of a 3x3 convolution


def similarities(n: int, seed: int) -> Iterator[Tensor]:
    """The similarity of one group of n units after each step, float64."""
    work = build("drift", {"weight": (n, WIDTH)}, {"weight": "h ."}, STEPS, seed)
    total = torch.zeros(n, n, dtype=torch.float64)
    for target, source in work.pairs():
        total += target["weight"] @ source["weight"].T
        yield total.clone()


def scipy(similarity: Tensor, start: Tensor) -> Tensor:
    del start  # not used by scipy
    return torch.as_tensor(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def without_numba(similarity: Tensor, start: Tensor) -> Tensor:
    with patch.object(assignment, "_compiled", lambda: None):
        return assign(similarity, start)


SOLVERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scipy": scipy,
    "assign": assign,
    "no numba": without_numba,
}


def measure(n: int) -> list[dict[str, float]]:
    """Milliseconds of each solver at each step of each sequence."""
    times: list[dict[str, float]] = []
    for seed in SEEDS:
        start = torch.arange(n)
        for similarity in similarities(n, seed):
            found = {name: timed(solve, similarity, start) for name, solve in SOLVERS.items()}
            check(similarity, [answer for answer, _ in found.values()])
            times.append({name: spent for name, (_, spent) in found.items()})
            start = found["assign"][0]
    return times


def timed(
    solve: Callable[[Tensor, Tensor], Tensor], similarity: Tensor, start: Tensor
) -> tuple[Tensor, float]:
    began = time.thread_time()
    answer = solve(similarity, start)
    return answer, 1000 * (time.thread_time() - began)


def check(similarity: Tensor, answers: list[Tensor]) -> None:
    places = torch.arange(len(similarity))
    values = [float(similarity[places, answer].sum()) for answer in answers]
    allowed = 2 * len(similarity) * TIE_BREAK * float(similarity.abs().max())
    if max(values) - min(values) > allowed:
        raise RuntimeError(f"the solvers disagree: {dict(zip(SOLVERS, values, strict=True))}")


def show(n: int, when: str, times: list[dict[str, float]]) -> None:
    plain = median(t["scipy"] for t in times)
    cells = [f"{n:>5} {when:>6} {plain:>9.2f}"]
    for name in ("assign", "no numba"):
        ratio = median(t["scipy"] / t[name] for t in times)
        cells.append(f"{median(t[name] for t in times):>9.2f} {ratio:>6.1f}x")
    print(" ".join(cells))


def main() -> None:
    torch.set_num_threads(1)
    assign(torch.eye(64))  # compiles
    print("    n   step  scipy ms  assign ms  ratio  no numba  ratio")
    for n in [int(size) for size in sys.argv[1:]] or SIZES:
        times = measure(n)
        show(n, "first", times[::STEPS])
        show(n, "later", [t for k, t in enumerate(times) if k % STEPS])


if __name__ == "__main__":
    main()
