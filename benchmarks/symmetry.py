"""Time and memory of `symport.discover` on full-size networks.

    python benchmarks/symmetry.py [--proof-only]

ResNet-50 at full width with its proof and on the meta device, DenseNet-121 on the meta device, and
a Llama with the sizes of an 8B model at 4, 8, 16 and 32 layers on the meta device. The third column
from the right is the time for each operation of the traced network, which is constant if the time
is linear. Each network has a separate process with one thread; times are of that thread, so that
other load on the machine is not counted; memory is the peak of the process.

Targets: ResNet-50 below 5 s, DenseNet-121 below 10 s, a Llama of 32 layers below 30 s.
"""

import argparse
import multiprocessing
import resource
import time
from functools import partial

import torch
from torch import nn

from symport.symmetry import Example, discover, trace
from symport_recipes.networks import DenseNet, Llama, ResNet

IMAGE = torch.zeros(1, 3, 64, 64)
TOKENS = torch.zeros(1, 8, dtype=torch.int64)
LAYERS = (4, 8, 16, 32)


def llama(layers: int) -> nn.Module:
    return Llama(layers, width=4096, heads=32, kv=8, units=128, hidden=14336)


NETWORKS = {
    "ResNet-50, proven": (partial(ResNet, (3, 4, 6, 3), base=64, bottleneck=True), IMAGE, "cpu"),
    "ResNet-50, meta": (partial(ResNet, (3, 4, 6, 3), base=64, bottleneck=True), IMAGE, "meta"),
    "DenseNet-121, meta": (partial(DenseNet, growth=32, inputs=64), IMAGE, "meta"),
    **{f"Llama, {n} layers, meta": (partial(llama, n), TOKENS, "meta") for n in LAYERS},
}


def measure(name: str) -> None:
    torch.set_num_threads(1)
    make, inputs, device = NETWORKS[name]
    with torch.device(device):
        model = make().eval()
    discover(nn.Linear(2, 2), torch.zeros(1, 2))  # what torch loads when it first traces
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    spec = discover(model, inputs, strict=True)
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    operations = len(trace(model, Example.of((inputs.to(device),)), None).operations)
    weights = sum(p.numel() for p in model.parameters())
    print(
        f"{name:24} {weights / 1e6:8.0f} M weights {operations:5} operations "
        f"{len(spec.groups):4} groups {seconds:6.1f} s {1e3 * seconds / operations:6.2f} ms each, "
        f"{before / 1024:5.0f} MiB before, {peak / 1024:5.0f} MiB at the peak",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--proof-only", action="store_true", help="only the ResNet-50 with proof")
    names = list(NETWORKS)[:1] if parser.parse_args().proof_only else list(NETWORKS)
    for name in names:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(name,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name} failed")


if __name__ == "__main__":
    main()
