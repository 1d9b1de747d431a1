"""Put a fine-tune of the old base on the new base, from files, with a verdict.

Names are imported on first use, so that the command line's help needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from symport.port._settings import PortSettings, TaskName, make_settings

if TYPE_CHECKING:
    from symport.port._alignment import align, find_spec
    from symport.port._ancestry import embedding_names, residual_groups
    from symport.port._check import Checked, check_port
    from symport.port._run import Ported, port_fine_tune
    from symport.port._with_examples import Loaded, load_all

__all__ = [
    "Checked",
    "Loaded",
    "PortSettings",
    "Ported",
    "TaskName",
    "align",
    "check_port",
    "embedding_names",
    "find_spec",
    "load_all",
    "make_settings",
    "port_fine_tune",
    "residual_groups",
]

_HOME = {
    "Checked": "_check",
    "Loaded": "_with_examples",
    "Ported": "_run",
    "align": "_alignment",
    "check_port": "_check",
    "embedding_names": "_ancestry",
    "find_spec": "_alignment",
    "load_all": "_with_examples",
    "port_fine_tune": "_run",
    "residual_groups": "_ancestry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
