"""Model folders of transformers: architectures, names of weights, tokenizers, configurations."""

from symport.huggingface._architecture import (
    LEARNED,
    all_outputs,
    chosen_outputs,
    example_inputs,
    is_config,
    load_architecture,
)
from symport.huggingface._configs import write_config
from symport.huggingface._folders import Folders, find_folders
from symport.huggingface._models import (
    Family,
    ModelFiles,
    check_device,
    check_weights,
    find_family,
    load,
    open_models,
    unused_tensor_notes,
)
from symport.huggingface._names import NamedCheckpoint
from symport.huggingface._tokenizers import check_tokenizers, load_tokenizer, quiet_transformers
from symport.huggingface._wide import wide

__all__ = [
    "LEARNED",
    "Family",
    "Folders",
    "ModelFiles",
    "NamedCheckpoint",
    "all_outputs",
    "check_device",
    "check_tokenizers",
    "check_weights",
    "chosen_outputs",
    "example_inputs",
    "find_family",
    "find_folders",
    "is_config",
    "load",
    "load_architecture",
    "load_tokenizer",
    "open_models",
    "quiet_transformers",
    "unused_tensor_notes",
    "wide",
    "write_config",
]
