"""Measure the cost of a port with examples, against that of its evaluations of the network alone.

The models are a BERT of random weights, a "fine-tune" of it and a permuted new base, or three given
folders; the examples are random tokens with labels. The port runs in a separate process, on one
thread, which measures bytes written, peak memory and processor time. It also counts the examples of
all gradients and forward passes, and times one of each alone; the products are the lower bound. The
table shows the estimate of `symport check` too. With another commit in PYTHONPATH, that commit is
measured, without an estimate if it has none.

    python benchmarks/port.py
    python benchmarks/port.py --bert                    # the size of MiniLM, 22 million weights
    python benchmarks/port.py --old-base A --tuned T --new-base B --examples texts.jsonl
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Generator

SIZES = {
    "small": {"vocab_size": 4000, "hidden_size": 128, "intermediate_size": 512,
              "num_hidden_layers": 2, "num_attention_heads": 4},
    "bert": {"vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536,
             "num_hidden_layers": 6, "num_attention_heads": 12},
}  # fmt: skip
LENGTH = 48
EXAMPLES = 64


def make(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Three models and examples on disk; the settings that name them."""
    from transformers import BertConfig, BertForSequenceClassification

    from symport.huggingface import all_outputs, example_inputs
    from symport.spec import Permutation, permute
    from symport.symmetry import discover

    torch.manual_seed(0)
    config = BertConfig(**sizes, max_position_embeddings=64, num_labels=2, pad_token_id=0)
    old = BertForSequenceClassification(config).eval()
    spec = discover(old, example_inputs(old, config), select=all_outputs)
    order = Permutation.random(spec, Generator().manual_seed(1))
    states = {
        "old_base": old.state_dict(),
        "tuned": {name: t + 0.003 * torch.randn_like(t) if t.is_floating_point() else t
                  for name, t in old.state_dict().items()},
        "new_base": permute(old.state_dict(), spec, order),
    }  # fmt: skip
    for name, state in states.items():
        model = BertForSequenceClassification(config)
        model.load_state_dict(state)
        model.save_pretrained(folder / name)
    inputs = torch.randint(1, sizes["vocab_size"], (EXAMPLES, LENGTH))
    labels = torch.randint(2, (EXAMPLES,))
    save_file({"inputs": inputs, "labels": labels}, folder / "examples.safetensors")
    arrays = {"task": "arrays", "loss": "symport.tasks:class_losses"}
    given = {name: str(folder / name) for name in states}
    return {**given, "examples": str(folder / "examples.safetensors"), **arrays}


class Meter:
    """Counts the examples that pass through the network, and keeps one batch to time."""

    def __init__(self) -> None:
        self.gradients = self.forwards = 0
        self.timed: dict[str, Callable[[], object]] = {}

    def attach(self) -> None:
        """Count in this process from now on."""
        from symport.model import LossGradient
        from symport.selection import SelectionProblem

        slope, evaluate = LossGradient.__call__, SelectionProblem.evaluate

        def counted(gradient: Any, params: Any, step: int) -> Any:
            labels = gradient.batches[step % len(gradient.batches)][1]
            self.gradients += len(labels)
            self.timed.setdefault("gradient", lambda: slope(gradient, params, step))
            self.timed.setdefault("gradient of", lambda: len(labels))
            return slope(gradient, params, step)

        def evaluated(problem: Any, params: Any, examples: Any) -> Any:
            self.forwards += len(examples)
            if len(examples) > 4:
                self.timed.setdefault("forward", lambda: evaluate(problem, params, examples))
                self.timed.setdefault("forward of", lambda: len(examples))
            return evaluate(problem, params, examples)

        LossGradient.__call__ = counted
        SelectionProblem.evaluate = evaluated

    def seconds(self, what: str) -> float:
        """Of one example."""
        taken: list[float] = []
        for _ in range(3):
            begun = time.process_time()
            self.timed[what]()
            taken.append(time.process_time() - begun)
        return min(taken) / self.timed[f"{what} of"]()  # type: ignore[operator]


def status(key: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(given: dict[str, Any]) -> dict[str, float]:
    """One port, measured; in a process of its own."""
    torch.set_num_threads(1)
    from symport.port import make_settings, port_fine_tune

    before = written()
    meter = Meter()
    meter.attach()
    port_fine_tune(make_settings(given))
    found = {"written": written() - before, "peak": status("VmHWM"), "seconds": processor()}
    floor = meter.gradients * meter.seconds("gradient") + meter.forwards * meter.seconds("forward")
    return {**found, "gradients": meter.gradients, "forwards": meter.forwards, "floor": floor}


def estimate(given: dict[str, Any]) -> dict[str, float]:
    """What `symport check` says beforehand; nothing where it cannot."""
    torch.set_num_threads(1)
    from symport.port import check_port, make_settings

    cost = check_port(make_settings(given)).cost
    return {"seconds": cost.seconds or 0.0, "peak": cost.memory, "written": cost.disk}


def apart(what: str, given: dict[str, Any]) -> dict[str, float]:
    """The result of a function here, run by another process."""
    program = [sys.executable, __file__, "--inside", what, json.dumps(given)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bert", action="store_true", help="22 million weights, minutes")
    parser.add_argument("--set", action="append", default=[], help="a setting, such as folds=2")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    for name in ("old-base", "tuned", "new-base", "examples"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    if given.inside:
        function = {"run": run, "estimate": estimate}[given.inside[0]]
        print(json.dumps(function(json.loads(given.inside[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = {k: getattr(given, k) for k in ("old_base", "tuned", "new_base", "examples")}
        if not all(settings.values()):
            settings = make(place, SIZES["bert" if given.bert else "small"])
        settings |= dict(pair.split("=", 1) for pair in given.set)
        settings["out"] = str(place / "out")
        show(settings, apart("estimate", settings), apart("run", settings))


def show(settings: dict[str, Any], said: dict[str, float], found: dict[str, float]) -> None:
    stored = sum(path.stat().st_size for path in Path(settings["new_base"]).glob("*.safetensors"))
    rows = [
        ("written, MB", found["written"] / 1e6, stored / 1e6, said["written"] / 1e6),
        ("peak memory, MB", found["peak"] / 1e6, 3 * stored / 1e6, said["peak"] / 1e6),
        ("processor, s", found["seconds"], found["floor"], said["seconds"]),
    ]
    print(
        f"examples forward and backward {found['gradients']:.0f}, forward {found['forwards']:.0f}"
    )
    print(f"{'':16} {'measured':>9} {'floor':>9} {'ratio':>6} {'check said':>11}")
    for name, measured, floor, expected in rows:
        print(f"{name:16} {measured:9.1f} {floor:9.1f} {measured / floor:6.2f} {expected:11.1f}")
    print("floors: one new base written; three models in memory; the evaluations alone")


if __name__ == "__main__":
    main()
