"""The tasks of fine-tunes: their examples in files, the inputs of a model, and the losses."""

from symport.tasks._tasks import (
    ExampleSource,
    class_losses,
    feed_of,
    make_task,
    read_examples,
    read_inputs,
    resolve_task,
)
from symport.tasks._texts import valid_pad

__all__ = [
    "ExampleSource",
    "class_losses",
    "feed_of",
    "make_task",
    "read_examples",
    "read_inputs",
    "resolve_task",
    "valid_pad",
]
