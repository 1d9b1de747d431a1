"""Run a function of a test module in two processes that gloo joins, as torchrun would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, json, sys, torch
from symport import distributed
distributed.join()
found = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])
if distributed.rank() == 0:
    print(json.dumps(found))
torch.distributed.destroy_process_group()
"""
REPOSITORY = Path(__file__).resolve().parents[1]


def environments(count: int = 2) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "src"))),
    }
    return [{**shared, "RANK": str(number)} for number in range(count)]


def run_joined(*command: str) -> list[str]:
    """What each of two processes prints; both must end well."""
    running = [
        subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.PIPE, text=True)
        for env in environments()
    ]
    printed = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return printed


def in_two_processes(module: str, function: str, *arguments: str):
    """What the function returns in the first process."""
    return json.loads(run_joined("-c", PROGRAM, module, function, *arguments)[0])
