"""The memory of this machine: how much is available, and returning what the allocator keeps.

The C library of Linux keeps freed blocks of up to 32 MiB; after a step of matching they can add up
to the size of all the networks.
"""

import ctypes
import sys
from pathlib import Path


def release_memory() -> None:
    """Return freed memory to the system, which takes milliseconds; only on Linux with glibc.

    Example:
        >>> release_memory()
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(ctypes.c_size_t(0))


def available() -> int | None:
    """Bytes that can still be allocated without swapping; None on systems other than Linux.

    Example:
        >>> available() is None or available() > 0
        True
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line), None)
