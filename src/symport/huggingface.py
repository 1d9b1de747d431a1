"""Models of transformers by their configuration, without weights in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import FileError, SettingsError

LENGTH = 8  # tokens of an example: the symmetry does not depend on it
EXPERTS = "batched_mm"  # others loop over data or sort rows by expert, which keeps experts in place
LEARNED = "e_score_correction_bias"  # of routers: set in training, though a buffer


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model on the meta device, and how to run it.

    Attributes:
        model: Without weights.
        inputs: An example, as keyword arguments.
        select: Picks the output that counts from what the model returns.
        moving: Buffers that differ between trained models, as `discover` takes them.
    """

    model: nn.Module
    inputs: dict[str, Any]
    select: Callable[[Any], Any]
    moving: tuple[str, ...] = ()


def is_config(reference: str) -> bool:
    """Whether this is a `config.json`, or a folder that has one."""
    path = Path(reference)
    return (path / "config.json").is_file() or (path.suffix == ".json" and path.is_file())


def load_architecture(reference: str) -> Architecture:
    """Build the model that a configuration names; no code of the folder is run.

    Args:
        reference: A model folder or its `config.json`.

    Raises:
        SettingsError: transformers is not installed, or does not know the architecture.
        FileError: The configuration cannot be read.
    """
    try:
        import transformers
    except ImportError as error:
        raise SettingsError(
            "a config.json needs transformers: pip install 'symport[hf]'"
        ) from error
    path = Path(reference)
    try:
        config = settle(transformers.AutoConfig.from_pretrained(path, trust_remote_code=False))
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a configuration that transformers knows ({error})") from error
    named = getattr(config, "architectures", None) or []
    kind = getattr(transformers, named[0], None) if named else None
    if kind is None:
        raise SettingsError(
            f"{path}: 'architectures' is {named}, none of which transformers has; "
            "write a function that makes the model and pass it as module:function"
        )
    with torch.device("meta"):
        model = kind(config)
    moving = tuple(name for name, _ in model.named_buffers() if name.endswith(LEARNED))
    return Architecture(model.eval(), example_inputs(model, config), main_output, moving)


def settle(config: Any) -> Any:
    """Have a model computed as we need it, whatever its file asks for; in place.

    Attention is what torch has, so that no kernel, which is foreign code, comes from the hub.
    Outputs are records, of what the model computes in any case.

    Args:
        config: A configuration of transformers, those of its parts included.
    """
    config.output_attentions = False  # first: it insists on one kind of attention
    config.output_hidden_states = False
    config.return_dict = True
    config.use_cache = False
    config._attn_implementation = None
    config._experts_implementation = EXPERTS
    return config


def example_inputs(model: nn.Module, config: Any) -> dict[str, Tensor]:
    """One example of what the model takes first, and of what its decoder takes."""
    name = str(getattr(model, "main_input_name", "input_ids"))
    tokens = torch.zeros(1, LENGTH, dtype=torch.int64)
    inputs = {name: tokens}
    if name == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", 224)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        inputs = {name: torch.zeros(1, getattr(vision, "num_channels", 3), height, width)}
    elif name == "input_features":
        frames = 2 * config.max_source_positions
        inputs = {name: torch.zeros(1, config.num_mel_bins, frames)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        inputs["input_ids"] = tokens
    return inputs


def main_output(output: Any) -> Any:
    """Logits if there are any, else the last hidden state, else everything."""
    for name in ("logits", "logits_per_image", "last_hidden_state"):
        found = getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    return output
