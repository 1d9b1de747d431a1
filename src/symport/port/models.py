"""Models of transformers: found, compared and loaded."""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from symport.checkpoint import Checkpoint, open_checkpoint
from symport.errors import FileError, ParamsError, SettingsError
from symport.huggingface import EXPERTS
from symport.params import Params, listed
from symport.state import own_tensors

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
# What may differ between bases without changing what the network computes.
HARMLESS = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "tokenizer_class",
    "initializer_range", "gradient_checkpointing", "max_position_embeddings", "pad_token_id",
    "bos_token_id", "eos_token_id", "attention_dropout", "hidden_dropout_prob",
    "classifier_dropout", "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop",
    "resid_pdrop", "hidden_dropout",
    "_attn_implementation_autoset", "output_router_logits", "router_aux_loss_coef",
}  # fmt: skip
OF_TASK = {"CAUSAL_LM": "MODEL_FOR_CAUSAL_LM_MAPPING",
           "SEQ_CLS": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"}  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Where the three models lie.

    Attributes:
        old_base: What was fine-tuned.
        tuned: The fine-tune.
        new_base: Where it is to go.
    """

    old_base: Path
    tuned: Path
    new_base: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the fine-tune is an adapter, not a whole model."""
        return (self.tuned / "adapter_config.json").is_file()


@dataclass(frozen=True, eq=False)
class Family:
    """The architecture that the fine-tune has.

    Attributes:
        kind: The class of transformers.
        config: Its configuration.
    """

    kind: Any
    config: Any

    @property
    def name(self) -> str:
        """The name of the class."""
        return str(self.kind.__name__)

    def outline(self) -> nn.Module:
        """The model on the meta device: shapes without contents."""
        with torch.device("meta"):
            return self.kind(self.config).eval()


def find_folder(reference: str) -> Path:
    """A local folder, or the download of a hub id.

    Raises:
        FileError: It is neither, or the hub cannot be reached.
        SettingsError: huggingface_hub is not installed.
    """
    path = Path(reference)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(reference):
        raise FileError(f"{reference}: not a model folder, nor a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SettingsError(
            f"{reference}: no such folder; to download it: pip install 'symport[hf]'"
        ) from error
    try:
        return Path(snapshot_download(reference, allow_patterns=WANTED))
    except Exception as error:  # its own errors, and those of the network under it
        raise FileError(
            f"{reference}: no such folder here, and the hub does not give it "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); download it elsewhere and "
            "pass its folder"
        ) from error


def find_folders(old_base: str, tuned: str, new_base: str) -> Folders:
    """All three; raises FileError or SettingsError as `find_folder`."""
    folders = Folders(find_folder(old_base), find_folder(tuned), find_folder(new_base))
    for path in (folders.old_base, folders.new_base):
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise FileError(f"{path}: is an adapter, not a base; merge it into its base first")
    return folders


def find_family(folders: Folders) -> Family:
    """The architecture of the fine-tune, once bases and fine-tune are known to share it.

    Raises:
        SettingsError: transformers is not installed or does not know the architecture, a model is
            quantized, or configurations differ in what the network computes.
        FileError: A configuration cannot be read.
    """
    configs = {p: _config(p) for p in (folders.old_base, folders.new_base)}
    if not folders.is_adapter:
        configs[folders.tuned] = _config(folders.tuned)
    for path, config in configs.items():
        _refuse_quantized(path, config)
    _check_same(configs)
    if folders.is_adapter:
        return _family_of_adapter(folders.tuned, configs[folders.new_base])
    config = configs[folders.tuned]
    return Family(_class_named(folders.tuned, config), config)


def check_weights(folders: Folders) -> None:
    """Read all headers, and compare the shapes of what bases and fine-tune share.

    Raises:
        FileError: A file of weights is missing, cut short, or a pickle.
        ParamsError: Shapes differ; the message says which.
    """
    with open_checkpoint(folders.old_base) as old, open_checkpoint(folders.new_base) as new:
        _check_shapes(old, new, f"{folders.old_base}", f"{folders.new_base}")
        with open_checkpoint(folders.tuned) as tuned:
            if not folders.is_adapter:
                _check_shapes(old, tuned, f"{folders.old_base}", f"{folders.tuned}")


def load(folder: Path, family: Family, *, dtype: str, device: str = "cpu") -> tuple[Any, Params]:
    """Load a base or a fine-tune as the family has it.

    A head that the folder has not is zero.

    Returns:
        The model, and its tensors, each under one name.

    Raises:
        FileError: transformers cannot load the folder.
        ParamsError: Shapes differ from the family's.
    """
    with quiet():
        try:
            model, info = family.kind.from_pretrained(
                folder,
                config=family.config,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                local_files_only=True,
            )
        except RuntimeError as error:
            raise ParamsError(f"{folder}: does not fit {family.name} ({error})") from error
        except (OSError, ValueError) as error:
            raise FileError(f"{folder}: cannot be loaded ({error})") from error
    own = {name: tensor.detach() for name, tensor in own_tensors(model.eval()).items()}
    with torch.no_grad():
        for name in info["missing_keys"]:
            own[name].zero_()
    model.to(device)
    return model, params_of(model)


def params_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors, those that are tied under their first name only."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in own_tensors(model).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            result[name] = tensor.detach()
    return result


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, or None if it has none."""
    import transformers

    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError):
        return None


def check_tokenizers(old: Any, new: Any) -> None:
    """Raise unless two tokenizers give every token the same number; None passes.

    Raises:
        ParamsError: They do not; the message lists tokens.
    """
    if old is None or new is None:
        return
    ours, theirs = old.get_vocab(), new.get_vocab()
    odd = sorted(t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t))
    if odd:
        raise ParamsError(
            f"the tokenizers of the bases differ in {len(odd)} tokens: {listed(map(repr, odd))}; "
            "a port needs bases that read text alike"
        )


@contextmanager
def quiet() -> Generator[None]:
    """Keep transformers from printing what our own messages say better."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _config(folder: Path) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise SettingsError("porting needs transformers: pip install 'symport[hf]'") from error
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, experts_implementation=EXPERTS, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{folder}: has no configuration that transformers knows ({error})") from (
            error
        )
    config.use_cache = False
    return config


def _refuse_quantized(folder: Path, config: Any) -> None:
    if getattr(config, "quantization_config", None) is not None:
        raise SettingsError(
            f"{folder}: its weights are quantized, which cannot be permuted exactly; pass the "
            "model that was quantized, or save model.dequantize() and pass that"
        )


def _check_same(configs: Mapping[Path, Any]) -> None:
    """Nothing that changes the computation may differ."""
    (first, config), *others = configs.items()
    ours = _relevant(config)
    for path, other in others:
        theirs = _relevant(other)
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                raise SettingsError(
                    f"not one architecture: {key} is {ours.get(key)!r} in {first}, "
                    f"{theirs.get(key)!r} in {path}"
                )


def _relevant(config: Any) -> dict[str, Any]:
    known = cast("dict[str, Any]", json.loads(json.dumps(config.to_dict(), default=str)))
    return {key: value for key, value in known.items() if key not in HARMLESS}


def _class_named(folder: Path, config: Any) -> Any:
    import transformers

    named = getattr(config, "architectures", None) or []
    kind = getattr(transformers, named[0], None) if named else None
    if kind is None:
        raise SettingsError(f"{folder}: 'architectures' is {named}, none that transformers has")
    return kind


def _family_of_adapter(folder: Path, config: Any) -> Family:
    """What the adapter's task says, or the base as it is."""
    import transformers

    try:
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{folder}/adapter_config.json: cannot be read ({error})") from error
    task = str(adapter.get("task_type"))
    if task not in OF_TASK:
        return Family(_class_named(folder, config), config)
    if task == "SEQ_CLS":
        config.num_labels = _classes_of(folder)
    kind = getattr(transformers, OF_TASK[task])[type(config)]
    return Family(kind, config)


def _classes_of(folder: Path) -> int:
    """How many classes the adapter's own head has."""
    heads = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
    with open_checkpoint(folder) as tensors:
        for name, tensor in tensors.outline().items():
            if name.endswith(heads):
                return int(tensor.shape[0])
    return 2  # as transformers has it


def _check_shapes(a: Checkpoint, b: Checkpoint, what_a: str, what_b: str) -> None:
    ours, theirs = a.outline(), b.outline()
    odd = [n for n in ours if n in theirs and ours[n].shape != theirs[n].shape]
    if odd:
        sizes = [tuple(side[odd[0]].shape) for side in (ours, theirs)]
        raise ParamsError(
            f"shapes differ in {listed(odd)}: {odd[0]} is {sizes[0]} in {what_a}, {sizes[1]} in "
            f"{what_b}; a port needs one architecture and one vocabulary"
        )
