"""Pairs of seeds and the device of one of several processes."""

import os
from collections.abc import Sequence

import torch

from symport import distributed
from symport.errors import SettingsError


def share(seeds: Sequence[int]) -> Sequence[int]:
    """Those of this process, by RANK and WORLD_SIZE; all if they are not set.

    Raises:
        SettingsError: One of the two is no number that fits.

    Example:
        >>> list(share(range(3)))
        [0, 1, 2]
    """
    place, among = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if place >= among:
        raise SettingsError(f"RANK is {place}, WORLD_SIZE {among}; ranks count from 0")
    return seeds[place::among]


def device_of(name: str) -> str:
    """Check a device; `"cuda"` becomes this process's own, by LOCAL_RANK.

    More processes than GPUs take turns, and `"cuda:0"` puts all of them on the first.

    Raises:
        SettingsError: There is no such device, or this machine has none.

    Example:
        >>> device_of("cpu")
        'cpu'
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"no device {name!r}; choose cpu, cuda, cuda:1 …") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        own = _number("LOCAL_RANK", 0) % max(count, 1)
        number = device.index if ":" in name else own
        if number >= count:
            raise SettingsError(f"device {name!r}: torch can use {count} GPUs of this machine")
        return f"cuda:{number}"
    try:
        torch.empty(1, device=device)
    except Exception as error:  # each backend fails in its own way
        raise SettingsError(f"device {name!r} cannot be used here: {error}") from error
    return name


def join(device: str) -> None:
    """Make the processes of torchrun work together, each on its device."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.join("nccl" if on_gpu else "gloo")


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if text and not text.isdecimal():
        raise SettingsError(f"{variable} is {text!r}, not a number; it is set by torchrun")
    return int(text or default)
