"""Examples in files, and how a model of each task reads them."""

from symport.tasks._tasks import (
    Reading,
    class_losses,
    feed_of,
    make_task,
    read_examples,
    read_inputs,
    task_named,
)
from symport.tasks._texts import valid_pad

__all__ = [
    "Reading",
    "class_losses",
    "feed_of",
    "make_task",
    "read_examples",
    "read_inputs",
    "task_named",
    "valid_pad",
]
