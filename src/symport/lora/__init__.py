"""LoRA adapters: what their tensors mean, and how they move at their own rank."""

from symport.lora._format import (
    EMBEDDED,
    Adapter,
    Shapes,
    by_pattern,
    check_known,
    check_supported,
    completed,
    followers,
    role,
    targets,
    touched,
    wholes,
)
from symport.lora._transport import (
    displacement,
    load_adapter,
    read_adapter_config,
    save_adapter,
    transport_adapter,
)

__all__ = [
    "EMBEDDED",
    "Adapter",
    "Shapes",
    "by_pattern",
    "check_known",
    "check_supported",
    "completed",
    "displacement",
    "followers",
    "load_adapter",
    "read_adapter_config",
    "role",
    "save_adapter",
    "targets",
    "touched",
    "transport_adapter",
    "wholes",
]
