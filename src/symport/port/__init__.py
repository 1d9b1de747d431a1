"""Put a fine-tune of the old base on the new base, from files, with a verdict.

The names load when they are used, so that the command line's help needs no torch.
"""

from typing import TYPE_CHECKING, Any

from symport.port.settings import PortSettings

if TYPE_CHECKING:
    from symport.port.run import Ported, port

__all__ = ["PortSettings", "Ported", "port"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from symport.port import run

    return getattr(run, name)
