"""Give back to the system what the allocator keeps of freed tensors.

The C library of Linux keeps freed blocks of up to 32 MiB for itself; after a step of matching that
can be as much as all the networks.
"""

import ctypes
import sys


def give_back() -> None:
    """Return free memory to the system, in milliseconds; does nothing where that is not known."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(ctypes.c_size_t(0))
