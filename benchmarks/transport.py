"""Measure peak memory and time of transport and matching from files, and the time of copying them.

Three checkpoints with the shapes of a Llama, bfloat16: an old base, a fine-tune of it, and a new
base that is the old one with all but the residual stream permuted, plus noise. Transport reads the
three and writes one; every group is permuted. In the same run, the same files are copied (three
read, three written) and streamed (three read, one written). Before each, all files are dropped from
the cache; writes are timed until they are on disk. Peak memory is that of a separate process,
libraries included.

    python benchmarks/transport.py
    python benchmarks/transport.py --gigabytes 8 --width 4096
    python benchmarks/transport.py --gigabytes 8 --match

`--folder` is where the files are written; it needs six times the gigabytes, freed at the end.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from torch import Generator, Tensor

from symport.io import open_checkpoint, write_checkpoint
from symport.outofcore import match_checkpoints, outline_of, transport
from symport.spec import Permutation, PermutationSpec, permute_tensor

KINDS = ("old", "tuned", "new")
BLOCK = 2**24  # bytes copied at a time
PER_SHARD = 5  # layers in a file


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama: heads of 128, four query heads for each of key and value."""

    width: int
    inner: int
    vocabulary: int
    layers: int

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The pattern and shape of every tensor."""
        d, m, v = self.width, self.inner, self.vocabulary
        found = {"embed": (". d", (v, d)), "norm": ("d", (d,)), "head": (". d", (v, d))}
        for k in range(self.layers):
            kv = f"kv{k}"
            found |= {
                f"{k}.q": (f"({kv} {kv}/q 128) d", (d, d)),
                f"{k}.k": (f"({kv} 128) d", (d // 4, d)),
                f"{k}.v": (f"({kv} {kv}/v) d", (d // 4, d)),
                f"{k}.o": (f"d ({kv} {kv}/q {kv}/v)", (d, d)),
                f"{k}.gate": (f"m{k} d", (m, d)),
                f"{k}.up": (f"m{k} d", (m, d)),
                f"{k}.down": (f"d m{k}", (d, m)),
                f"{k}.norm": ("d", (d,)),
            }
        return found

    def spec(self) -> PermutationSpec:
        """The symmetry."""
        sizes = {"d": self.width}
        for k in range(self.layers):
            kv = f"kv{k}"
            sizes |= {kv: self.width // 512, f"{kv}/q": 4, f"{kv}/v": 128, f"m{k}": self.inner}
        return PermutationSpec.parse({n: p for n, (p, _) in self.tensors().items()}, sizes=sizes)

    def layer_bytes(self) -> int:
        """The largest layer: a block, or the embedding."""
        block = 2 * (2.5 * self.width**2 + 3 * self.inner * self.width)
        return int(max(block, 2 * self.width * self.vocabulary))

    def total_bytes(self) -> int:
        """One checkpoint."""
        return sum(2 * torch.Size(shape).numel() for _, shape in self.tensors().values())


def shape_of(gigabytes: float, width: int) -> Shape:
    """As many layers as needed for that many gigabytes."""
    inner = 128 * round(width * 11008 / 4096 / 128)
    bare = Shape(width, inner, 8 * width, 0)
    one = Shape(width, inner, 8 * width, 1).total_bytes() - bare.total_bytes()
    layers = math.ceil((gigabytes * 1e9 - bare.total_bytes()) / one)
    return Shape(width, inner, 8 * width, max(1, layers))


def random(spec: PermutationSpec, *, width: bool) -> Permutation:
    """Every group moves, with or without the residual stream."""
    drawn = Permutation.random(spec, Generator().manual_seed(1)).indices
    return Permutation(drawn if width else {**drawn, "d": torch.arange(spec.groups["d"].size)})


def write_models(folder: Path, shape: Shape, kinds: Sequence[str]) -> None:
    """Old base, fine-tune and new base, or some of them, of numbers from a pool."""
    spec, names = shape.spec(), list(shape.tensors())
    shapes = {name: size for name, (_, size) in shape.tensors().items()}
    most = max(torch.Size(size).numel() for size in shapes.values())
    pool = torch.randn(most + 2**20, generator=Generator().manual_seed(0))
    permutation = random(spec, width=False)

    def draw(name: str, kind: int) -> Tensor:
        start = (7919 * (3 * names.index(name) + kind)) % 2**20
        return pool[start:][: torch.Size(shapes[name]).numel()].reshape(shapes[name])

    def make(kind: str, name: str) -> Tensor:
        values = draw(name, 0)
        if kind == "tuned":
            values = values + 0.01 * draw(name, 1)
        if kind == "new":
            values = permute_tensor(values, spec.patterns[name], permutation) + draw(name, 2) / 10
        return values.bfloat16()

    outline = {n: torch.empty(s, dtype=torch.bfloat16, device="meta") for n, s in shapes.items()}
    count = -(-shape.layers // PER_SHARD)
    layers = [int(name.split(".")[0]) if "." in name else 0 for name in names]
    shards = [f"model-{1 + layer // PER_SHARD:05}-of-{count:05}.safetensors" for layer in layers]
    files = dict(zip(names, shards, strict=True))
    for kind in kinds:
        made = ((name, make(kind, name)) for name in names)
        write_checkpoint(folder / kind, outline, files, made)


def run_transport(folder: Path, shape: Shape) -> str:
    spec = shape.spec()
    with (
        open_checkpoint(folder / "old") as old,
        open_checkpoint(folder / "tuned") as tuned,
        open_checkpoint(folder / "new") as new,
    ):
        moved = transport(old, tuned, new, spec, random(spec, width=True), scale=0.9)
        write_checkpoint(folder / "out", outline_of(old, tuned, new), tuned.files, moved)
    return "every group moved"


def run_match(folder: Path, shape: Shape) -> str:
    spec = shape.spec()
    with open_checkpoint(folder / "old") as old, open_checkpoint(folder / "new") as new:
        found = match_checkpoints(old, new, spec, fixed=["d"]).permutation.indices
    planted = random(spec, width=False).indices
    right = sum(torch.equal(found[group], planted[group]) for group in spec.groups)
    return f"{right} of {len(found)} planted groups found"


def child(task: str, folder: Path, shape: Shape) -> None:
    """Run one task alone, and print its time, its peak memory and what it says."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    start, begun = time.perf_counter(), time.process_time()
    said = {"transport": run_transport, "match": run_match}[task](folder, shape)
    worked = time.process_time() - begun
    print(json.dumps([time.perf_counter() - start, worked, peak_bytes(), said]))


def peak_bytes() -> int:
    """The most memory that this process has had; `ru_maxrss` would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def files_of(folder: Path, *kinds: str) -> list[Path]:
    return [path for kind in kinds for path in sorted((folder / kind).iterdir())]


def drop_cache(folder: Path) -> None:
    os.sync()
    for path in files_of(folder, *(kind for kind in KINDS if (folder / kind).exists())):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(folder: Path, *written: str) -> None:
    """Read all three models in blocks, write some of them, and wait for the disk."""
    buffer = memoryview(bytearray(BLOCK))
    for kind in KINDS:
        (folder / "copy" / kind).mkdir(parents=True)
        for path in files_of(folder, kind):
            with path.open("rb", buffering=0) as source, open_copy(folder, path, written) as target:
                while count := source.readinto(buffer):
                    target.write(buffer[:count])
                if kind in written:
                    os.fsync(target.fileno())


def open_copy(folder: Path, path: Path, written: tuple[str, ...]) -> FileIO:
    kind = path.parent.name
    return FileIO(folder / "copy" / kind / path.name if kind in written else os.devnull, "w")


def timed_copy(folder: Path, *written: str) -> float:
    drop_cache(folder)
    start = time.perf_counter()
    copy(folder, *written)
    taken = time.perf_counter() - start
    shutil.rmtree(folder / "copy")
    return taken


def alone(task: str, folder: Path, options: argparse.Namespace) -> tuple[float, float, int, str]:
    drop_cache(folder)
    settings = ["--gigabytes", str(options.gigabytes), "--width", str(options.width)]
    program = [sys.executable, __file__, *settings, "--folder", str(folder), "--child", task]
    answer = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    seconds, worked, peak, said = json.loads(answer.stdout)
    return seconds, worked, peak, said


def report(folder: Path, options: argparse.Namespace) -> None:
    shape = shape_of(options.gigabytes, options.width)
    size, layer = shape.total_bytes(), shape.layer_bytes()
    print(f"{shape.layers} layers of width {shape.width}, inner {shape.inner}, bfloat16")
    print(f"one checkpoint {size / 1e9:.2f} GB, largest layer {layer / 1e9:.3f} GB", flush=True)
    write_models(folder, shape, ["old", "new"] if options.match else KINDS)
    if options.match:
        report_match(folder, shape, options)
    else:
        report_transport(folder, size, options)


def report_match(folder: Path, shape: Shape, options: argparse.Namespace) -> None:
    seconds, worked, peak, said = alone("match", folder, options)
    costs = f"{seconds:7.1f} s, {worked:.1f} s of a processor, peak {peak / 1e9:.2f} GB"
    print(f"match                 {costs} ({said})")
    print(f"the matrix of the largest group is {8 * shape.inner**2 / 1e9:.2f} GB")


def report_transport(folder: Path, size: int, options: argparse.Namespace) -> None:
    seconds, worked, peak, said = alone("transport", folder, options)
    shutil.rmtree(folder / "out")
    costs = f"{seconds:7.1f} s, {worked:.1f} s of a processor, peak {peak / 1e9:.2f} GB"
    print(f"transport             {costs} ({said})")
    copies, moves = timed_copy(folder, *KINDS), timed_copy(folder, "tuned")
    print(f"copy three            {copies:7.1f} s")
    print(f"read three, write one {moves:7.1f} s")
    rate, copied = 4 * size / seconds / 1e6, 6 * size / copies / 1e6
    print(
        f"transport moves {rate:.0f} MB/s: {rate / copied:.0%} of copying at {copied:.0f} MB/s, "
        f"{moves / seconds:.0%} of reading three and writing one"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time transport, and copying of the same files.")
    parser.add_argument("--gigabytes", type=float, default=0.2, help="of one checkpoint")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--match", action="store_true", help="match weights instead")
    parser.add_argument("--folder", type=Path, help="for temporary files")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, shape_of(options.gigabytes, options.width))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(Path(folder), options)


if __name__ == "__main__":
    main()
