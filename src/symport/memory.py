"""The memory of this machine: how much is free, and giving back what the allocator keeps.

The C library of Linux keeps freed blocks of up to 32 MiB for itself; after a step of matching that
can be as much as all the networks.
"""

import ctypes
import sys
from pathlib import Path


def release_memory() -> None:
    """Return free memory to the system, in milliseconds; does nothing where that is not known."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(ctypes.c_size_t(0))


def available() -> int | None:
    """Bytes that a program may still take without swapping; None where that is not known.

    Example:
        >>> available() is None or available() > 0
        True
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line), None)
