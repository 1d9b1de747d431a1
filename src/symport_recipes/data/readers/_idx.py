"""Read idx files, the format of MNIST and Fashion-MNIST.

Two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of axes, the length
of each axis in four bytes, the highest first, then the values in row-major order.
"""

import math
import struct
from pathlib import Path

from torch import Tensor

from symport.errors import FileError
from symport_recipes.data.readers._raw import as_tensor, read_bytes

UNSIGNED_BYTES = 8
REMEDY = "fetch it again from the official source"


def read_idx(path: Path, ndim: int) -> Tensor:
    """Read a file of unsigned bytes, plain or packed.

    Args:
        path: The file.
        ndim: Number of axes it must have: 3 for images, 1 for labels.

    Returns:
        Its values, uint8.

    Raises:
        FileError: The magic number, the number of axes or the length of the file is wrong.
    """
    content = read_bytes(path)
    expected = bytes((0, 0, UNSIGNED_BYTES, ndim))
    if content[:4] != expected:
        raise FileError(
            f"{path}: starts with {content[:4].hex(' ')}, expected {expected.hex(' ')} "
            f"(unsigned bytes, {ndim} axes); {REMEDY}"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise FileError(f"{path}: ends inside its header; {REMEDY}")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if math.prod(shape) != len(content) - start:
        raise FileError(
            f"{path}: its header says {shape}, that is {math.prod(shape)} bytes, "
            f"but {len(content) - start} follow; {REMEDY}"
        )
    return as_tensor(content[start:]).reshape(shape)
