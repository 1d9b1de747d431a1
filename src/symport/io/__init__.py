"""Files of tensors, read and written whole or piece by piece; nothing is unpickled."""

from symport.io._checkpoint import (
    ADAPTER,
    INDEX,
    Checkpoint,
    TensorReader,
    open_checkpoint,
)
from symport.io._files import (
    PathLike,
    TensorFile,
    append_line,
    check_readable,
    digest,
    load_tensors,
    make_folder,
    open_tensors,
    read_json,
    save_tensors,
    sync,
    write_bytes,
    write_text,
)
from symport.io._locks import locked, take_lock
from symport.io._write_checkpoint import finished_files, write_checkpoint

__all__ = [
    "ADAPTER",
    "INDEX",
    "Checkpoint",
    "PathLike",
    "TensorFile",
    "TensorReader",
    "append_line",
    "check_readable",
    "digest",
    "finished_files",
    "load_tensors",
    "locked",
    "make_folder",
    "open_checkpoint",
    "open_tensors",
    "read_json",
    "save_tensors",
    "sync",
    "take_lock",
    "write_bytes",
    "write_checkpoint",
    "write_text",
]
