"""Time a training step of the recipes on a CPU, and the loader's share of it.

For each workload, in microseconds of processor time (so that other load on the machine is not
counted): drawing one batch (shuffled, augmented, normalised); a bare step on a fixed batch
(forward, backward, optimizer); and a complete step of `train`. The share is that of drawing in a
step of `train`.

    python benchmarks/loader.py --threads 1
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from symport_recipes.data import Examples, batches, digits
from symport_recipes.networks import conv8, digits_mlp, initial, two_layer_mlp
from symport_recipes.training import TrainSettings, train

BATCH = 128
REPEATS = 3  # the fastest is taken: other load on the machine only adds time


@dataclass(frozen=True, eq=False)
class Workload:
    """A network, what it is trained on, and how many steps are timed."""

    name: str
    model: Callable[[], nn.Module]
    examples: Examples
    steps: int
    augment: bool = False


def noise(n: int, *shape: int) -> Examples:
    generator = Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (n,), generator=generator)
    return Examples(pixels, labels, (0.5,) * shape[0], (0.25,) * shape[0])


def workloads() -> list[Workload]:
    grey, colour = noise(60_000, 1, 28, 28), noise(10_000, 3, 32, 32)
    return [
        Workload("digits, 64-512-512-10", digits_mlp, digits().train, 300),
        Workload("MNIST's size, 784-4096-10", two_layer_mlp, grey.normalised(), 20),
        Workload("CIFAR's size, conv8", conv8, colour.normalised(), 1),
        Workload("CIFAR's size, conv8, augmented", conv8, colour, 1, augment=True),
    ]


def fastest(run: Callable[[], None], count: int) -> float:
    """Microseconds for one of `count`, in the fastest of the repetitions."""
    times: list[float] = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / count


def endless(work: Workload) -> Iterator[tuple[Tensor, Tensor]]:
    generator = Generator().manual_seed(0)
    while True:
        yield from batches(work.examples, BATCH, generator, augment=work.augment)


def drawing(work: Workload) -> float:
    count = max(work.steps, len(work.examples) // BATCH)  # at least a pass, with its shuffle

    def run() -> None:
        for _ in islice(endless(work), count):
            pass

    return fastest(run, count)


def bare_step(work: Workload) -> float:
    model = work.model()
    inputs, labels = next(endless(work))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)

    def run() -> None:
        for _ in range(work.steps):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    return fastest(run, work.steps)


def whole_step(work: Workload) -> float:
    model, params0 = work.model(), initial(work.model, 0)
    settings = TrainSettings(steps=work.steps, batch_size=BATCH, lr=0.01, augment=work.augment)

    def run() -> None:
        train(model, params0, work.examples, settings, seed=0)

    return fastest(run, work.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the loader of the recipes.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"{'batches of ' + str(BATCH):<32}{'draw':>8}{'bare step':>12}{'train':>10}{'share':>8}")
    for work in workloads():
        draw, bare, whole = drawing(work), bare_step(work), whole_step(work)
        print(f"{work.name:<32}{draw:>8.0f}{bare:>12.0f}{whole:>10.0f}{draw / whole:>8.1%}")


if __name__ == "__main__":
    main()
