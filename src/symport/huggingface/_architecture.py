"""Models of transformers by their configuration, without weights in memory."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from symport.errors import FileError, SettingsError

LENGTH = 8  # tokens of an example: the symmetry does not depend on it
EXPERTS = "batched_mm"  # others loop over data or sort rows by expert, which keeps experts in place
CACHES = ("past_key_values", "cache_params", "mems", "state", "rnn_state")
LEARNED = "e_score_correction_bias"  # of routers: set in training, though a buffer


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model on the meta device, and how to run it.

    Attributes:
        model: The model, without weights.
        inputs: An example as keyword arguments.
        select: Selects the outputs of the model that the symmetry must preserve: all of them.
        moving: Buffers that differ between trained models, an argument of `discover`.
    """

    model: nn.Module
    inputs: dict[str, Any]
    select: Callable[[Any], Any]
    moving: tuple[str, ...] = ()


def is_config(reference: str) -> bool:
    """Whether a path is that of a `config.json`, or of a folder that contains one.

    Example:
        >>> is_config(str(gpt2)), is_config(str(folder))
        (True, False)
    """
    path = Path(reference)
    return (path / "config.json").is_file() or (path.suffix == ".json" and path.is_file())


def load_architecture(reference: str, inputs: dict[str, Any] | None = None) -> Architecture:
    """Build the model of a configuration on the meta device; no code of the folder is run.

    Args:
        reference: A model folder or its `config.json`.
        inputs: An example as keyword arguments; None to generate one.

    Raises:
        SettingsError: transformers is not installed, does not know the architecture, or no example
            can be generated.
        FileError: The configuration cannot be read.

    Example:
        >>> architecture = load_architecture(str(gpt2))
        >>> type(architecture.model).__name__, list(architecture.inputs)
        ('GPT2LMHeadModel', ['input_ids'])
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
    return Architecture(
        model.eval(),
        example_inputs(model, config) if inputs is None else inputs,
        all_outputs,
        moving,
    )


def settle(config: Any) -> Any:
    """Set the options of a configuration that symport relies on, in place.

    Attention is that of torch, so that no kernel is downloaded from the hub. Outputs are records,
    without optional parts.

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
    """Generate one example of the inputs of a model and, if it has one, its decoder.

    Args:
        model: A model of transformers.
        config: Its configuration.

    Raises:
        SettingsError: No example can be generated for the main input of the model.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1,
        ...                     num_attention_heads=1, intermediate_size=4)
        >>> {name: tuple(x.shape) for name, x in example_inputs(BertModel(config), config).items()}
        {'input_ids': (1, 8)}
    """
    name = str(getattr(model, "main_input_name", "input_ids"))
    tokens = torch.zeros(1, LENGTH, dtype=torch.int64)
    inputs: dict[str, Tensor] | None = {name: tokens}
    if name == "pixel_values":
        inputs = {name: _picture(config)}
    elif name in ("input_values", "input_features"):
        sound = _sound(name, config)
        inputs = None if sound is None else {name: sound}
    elif name == "past_values":
        inputs = _series(config)
    elif name != "input_ids":
        inputs = None
    if inputs is None:
        raise SettingsError(
            f"{type(model).__name__} takes {name} first, of which no example can be generated; "
            f"give one as --inputs FILE, a .safetensors or .npz file with {name} and the others"
        )
    if getattr(config, "is_encoder_decoder", False) and name != "past_values":
        inputs["decoder_input_ids"] = tokens
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        inputs["input_ids"] = tokens
        if any(part.endswith("logit_scale") for part, _ in model.named_parameters()):
            inputs["pixel_values"] = _picture(config)  # texts are compared with images
    return inputs


def _picture(config: Any) -> Tensor:
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", 224)
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return torch.zeros(1, getattr(vision, "num_channels", 3), height, width)


def _sound(name: str, config: Any) -> Tensor | None:
    """A waveform or a spectrogram, as the configuration describes it."""
    if name == "input_features" and hasattr(config, "max_source_positions"):
        if hasattr(config, "input_feat_per_channel"):
            return torch.zeros(1, 4 * LENGTH, config.input_feat_per_channel)
        return torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)
    if name == "input_features" and hasattr(config, "feature_projection_input_dim"):
        return torch.zeros(1, LENGTH, config.feature_projection_input_dim)
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
        return torch.zeros(1, config.max_length, config.num_mel_bins)
    if name == "input_values" and hasattr(config, "conv_stride"):
        length = LENGTH
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            length = (length - 1) * stride + kernel
        return torch.zeros(1, length)
    return None


def _series(config: Any) -> dict[str, Tensor] | None:
    """A time series, with the features that come with it."""
    if hasattr(config, "num_input_channels"):
        return {"past_values": torch.zeros(1, config.context_length, config.num_input_channels)}
    if not hasattr(config, "lags_sequence"):
        return None
    past, future = config.context_length + max(config.lags_sequence), config.prediction_length
    more = () if config.input_size == 1 else (config.input_size,)
    inputs = {
        "past_values": torch.zeros(1, past, *more),
        "past_observed_mask": torch.ones(1, past, *more),
        "past_time_features": torch.zeros(1, past, config.num_time_features),
        "future_values": torch.zeros(1, future, *more),
        "future_time_features": torch.zeros(1, future, config.num_time_features),
    }
    if config.num_static_categorical_features:
        static = torch.zeros(1, config.num_static_categorical_features, dtype=torch.int64)
        inputs["static_categorical_features"] = static
    if config.num_static_real_features:
        inputs["static_real_features"] = torch.zeros(1, config.num_static_real_features)
    return inputs


def all_outputs(output: Any) -> Any:
    """The floating-point and complex tensors that a model returns, by name if they have names.

    A proof covers only the outputs that it is given, so all are selected except caches, which are
    disabled by `settle`.

    Args:
        output: The output of a model of transformers.

    Example:
        >>> all_outputs({"logits": torch.ones(2), "past_key_values": torch.zeros(1)})
        {'logits': [tensor([1., 1.])]}
    """
    if isinstance(output, Mapping):
        named = cast("Mapping[str, Any]", output)
        return {name: found for name, value in named.items()
                if name not in CACHES and (found := _numbers(value))}  # fmt: skip
    return _numbers(output)


def chosen_outputs(names: Collection[str]) -> Callable[[Any], Any]:
    """A function that selects some of the outputs of a model by name.

    Args:
        names: Names of outputs, such as `logits`.

    Returns:
        The function. It raises SettingsError if the model has no output of such a name.

    Example:
        >>> select = chosen_outputs(["logits"])
        >>> select({"logits": torch.ones(2), "loss": torch.zeros(())})
        {'logits': [tensor([1., 1.])]}
    """

    def choose(output: Any) -> Any:
        found = all_outputs(output)
        known: list[str] = sorted(found) if isinstance(found, dict) else []
        if missing := sorted(set(names) - set(known)):
            raise SettingsError(f"the outputs {known} do not have {missing}")
        return {name: found[name] for name in names}

    return choose


def _numbers(value: Any) -> list[Tensor]:
    leaves = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return [leaf for leaf in leaves if leaf.is_floating_point() or leaf.is_complex()]
