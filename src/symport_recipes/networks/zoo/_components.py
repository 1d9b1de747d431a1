"""The symmetry of common components of networks, with architectures that contain them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Component:
    """A part of many networks.

    Attributes:
        name: Its usual name.
        found: What moves, and with what.
        shown_by: Architectures of the zoo that have it.
    """

    name: str
    found: str
    shown_by: tuple[str, ...]


COMPONENTS = (
    Component("hidden units", "one permutation for rows, bias and the next columns", ("MLP",)),
    Component(
        "gated perceptron",
        "one permutation for gate, up and down, also where gate and up are one tensor",
        ("Llama", "Phi3", "GptOss"),
    ),
    Component(
        "attention",
        "heads; within each, units of queries with those of keys, and units of values",
        ("GPT2", "Bert", "ViT"),
    ),
    Component(
        "rotary positions",
        "rotated units of queries and keys are fixed, the others move",
        ("Llama", "GPTNeoX", "DeepseekV3"),
    ),
    Component("shared key heads", "query heads within each key head", ("Llama", "Qwen2")),
    Component(
        "norm of queries and keys", "norm parameters shared by heads tie them", ("Qwen3", "Olmo2")
    ),
    Component("tables of positions, sinks", "move with the heads", ("T5", "Swin", "GptOss")),
    Component("heads that differ by constants", "fixed; units within them move", ("Bloom",)),
    Component(
        "stream with LayerNorm or RMSNorm",
        "one permutation for all tensors that read or write the stream, also tied embeddings",
        ("GPT2", "Gemma", "Whisper"),
    ),
    Component(
        "mixture of experts",
        "experts with their router rows, hidden units within each, and routing groups of experts",
        ("Mixtral", "Qwen2Moe", "Olmoe", "GptOss", "DeepseekV3"),
    ),
    Component("convolution, BatchNorm", "channels with their statistics", ("VGG-11, BatchNorm",)),
    Component("GroupNorm", "norm groups, and channels within each", ("ResNet-18, GroupNorm",)),
    Component(
        "grouped convolution", "groups, and channels within each, on both sides", ("ResNeXt-50",)
    ),
    Component("depthwise convolution", "one permutation for both sides", ("MobileNetV2",)),
    Component("squeeze and excitation", "gates move with channels", ("MobileNetV3",)),
    Component("residual addition", "one permutation for a stage", ("ResNet-18", "ResNet-50")),
    Component(
        "concatenation",
        "the permutations of its parts, one after the other",
        ("DenseNet-121", "UNet"),
    ),
    Component("flattened image", "each channel with all its positions", ("VGG-11",)),
    Component("channel shuffle", "one permutation for both branches", ("ShuffleNetV2",)),
    Component("patches, class token, layer scale", "the stream", ("ViT", "DeiT", "ConvNext")),
    Component("recurrent layer", "one permutation for all gates", ("LSTM", "GRU")),
    Component("state space layer", "inner channels, states, ranks", ("Mamba",)),
    Component(
        "layer used repeatedly", "one permutation on both sides", ("MLP, one layer three times",)
    ),
    Component("low-rank adapter", "its ranks; units as without it", ("MLP with adapters",)),
)
