import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import torch
from symport.memory import release_memory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

for _ in range(3):  # freed once, a block of this size comes from the heap the next time
    torch.zeros(2**22)
held = [torch.ones(2**20) for _ in range(50)]  # 200 MiB in blocks of 4
kept = held[-1]
del held
before = resident()
release_memory()
print(before - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_blocks_go_back_to_the_system():
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100
