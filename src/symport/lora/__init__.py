"""LoRA adapters: their tensors, and how they are carried to another base at their own rank."""

from symport.lora._adapter import Adapter, check_supported
from symport.lora._format import (
    EMBEDDED,
    Shapes,
    check_known,
    full_tensors,
    parse_key,
    targets,
    tie_breaking_names,
    tied_tensors,
    value_for_module,
    with_tensors,
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
    "check_known",
    "check_supported",
    "displacement",
    "full_tensors",
    "load_adapter",
    "parse_key",
    "read_adapter_config",
    "save_adapter",
    "targets",
    "tie_breaking_names",
    "tied_tensors",
    "transport_adapter",
    "value_for_module",
    "with_tensors",
]
