"""The base of an adapter: its class, its shapes, and the tied tensors that the adapter unties."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from symport.errors import ParamsError, SettingsError
from symport.huggingface._names import Names
from symport.io import open_checkpoint
from symport.lora import (
    EMBEDDED,
    Adapter,
    Shapes,
    check_known,
    check_supported,
    full_tensors,
    load_adapter,
    parse_key,
    read_adapter_config,
    targets,
    tie_breaking_names,
    value_for_module,
)

OF_TASK = {
    "CAUSAL_LM": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "SEQ_CLS": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "TOKEN_CLS": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
    "QUESTION_ANS": "MODEL_FOR_QUESTION_ANSWERING_MAPPING",
    "SEQ_2_SEQ_LM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "FEATURE_EXTRACTION": "MODEL_MAPPING",
}


def class_under(folder: Path, *bases: Any) -> Any:
    """The class of an adapter's task, if it has one; sets the number of classes of the bases.

    Raises:
        ParamsError: The adapter is not plain LoRA or DoRA.
        SettingsError: transformers has no such class for the last base.
        FileError: The adapter's configuration cannot be read.
    """
    import transformers

    config = read_adapter_config(folder)
    check_supported(Adapter(config, {}))
    task = str(config.get("task_type"))
    if task not in OF_TASK:
        return None
    if task in ("SEQ_CLS", "TOKEN_CLS"):
        for base in bases:
            base.num_labels = _classes_of(folder)
    kinds = getattr(transformers, OF_TASK[task])
    if type(bases[-1]) not in kinds:
        raise SettingsError(
            f"{folder}/adapter_config.json: task_type is {task}, for which transformers has no "
            f"class with {type(bases[-1]).__name__}"
        )
    return kinds[type(bases[-1])]


def odd_base(folder: Path, old_base: Path) -> tuple[str, ...]:
    """A sentence if the name of an adapter's base is not that of the old base; else ()."""
    named = str(read_adapter_config(folder).get("base_model_name_or_path") or "")
    is_same = not named
    with suppress(OSError, ValueError):  # a name that no file can have
        is_same = is_same or Path(named).samefile(old_base)
    places = {*old_base.parts, *old_base.resolve().parts}
    own = named.rstrip("/").rpartition("/")[2]
    if is_same or own in places or f"models--{named.replace('/', '--')}" in places:
        return ()
    sentence = (
        f"The adapter was trained on {named}, which is not the name of the old base, "
        f"{old_base}: if they are not the same model, the result is wrong."
    )
    return (sentence,)


def _classes_of(folder: Path) -> int:
    """How many classes the adapter's own head has."""
    heads = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
    with open_checkpoint(folder) as tensors:
        for name, tensor in tensors.outline().items():
            if name.endswith(heads):
                return int(tensor.shape[0])
    return 2  # as transformers has it


def untied_by(folder: Path, names: Names, config: Any) -> frozenset[str]:
    """The names of tied tensors that are tensors of their own under an adapter.

    Raises:
        ParamsError: The adapter is not for such a base; the message says why, and what to do.
    """
    adapter = load_adapter(folder, names.ties)
    shapes = {name: tuple(tensor.shape) for name, tensor in names.outline.items()}
    check_fits(adapter, shapes, getattr(config.get_text_config(), "vocab_size", None))
    groups = {names.ties[name] for name in tie_breaking_names(adapter) if name in names.ties}
    return frozenset(n for n, first in names.ties.items() if first in groups and n != first)


def check_fits(adapter: Adapter, shapes: Shapes, vocabulary: int | None = None) -> None:
    """Raise ParamsError, with the next step, unless an adapter is for a base of these shapes.

    Args:
        adapter: Of any kind.
        shapes: Shapes of all tensors of the base, tied ones under each of their names.
        vocabulary: The number of tokens that the base knows.
    """
    check_supported(adapter)
    _check_vocabulary(adapter, shapes, vocabulary)
    for key, name in full_tensors(adapter).items():
        shape, known = tuple(adapter.tensors[key].shape), shapes.get(name)
        if known is not None and shape != tuple(known):
            raise ParamsError(
                f"{name}: the adapter has {shape}, the base {tuple(known)}: an adapter for another "
                "base"
            )
    found = targets(adapter, shapes)
    check_known([*found, *full_tensors(adapter).values()], shapes, "the base")
    ranks = adapter.config.get("rank_pattern") or {}
    for name, target in found.items():
        module = name.removesuffix(".weight")
        rank = value_for_module(ranks, module, adapter.config.get("r"))
        if isinstance(rank, int) and rank != (held := adapter.tensors[target.a].shape[0]):
            raise ParamsError(
                f"adapter_config.json: the rank of {module} is {rank}, its factors have {held}; "
                "configuration and weights are not of one adapter"
            )


def _check_vocabulary(adapter: Adapter, shapes: Shapes, vocabulary: int | None) -> None:
    """Raise ParamsError if embeddings or head of an adapter have other tokens than the base."""
    for key, tensor in adapter.tensors.items():
        kind, name = parse_key(key)
        known = shapes.get(name)
        counts = {"a": tensor.shape[-1:], "b": tensor.shape[:1], "value": tensor.shape[:1]}
        is_long = kind == ("a" if EMBEDDED in key else "b") or kind == "value"
        if known is None or known[0] != vocabulary or not is_long or len(known) != 2:
            continue
        if (rows := counts[kind][0]) != vocabulary:
            raise ParamsError(
                f"{name}: the adapter has {rows} tokens, the base {vocabulary}; it was trained "
                "with a resized vocabulary: give both bases the same "
                f"(model.resize_token_embeddings({rows})), save them with the fine-tune's "
                "tokenizer, and pass those"
            )
