"""What examples in docstrings find: `folder`, a new empty one, and `gpt2`, a tiny model folder."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _names_in_examples(request: pytest.FixtureRequest) -> None:
    """Examples in files and in `huggingface` would repeat these lines."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    namespace: dict[str, Any] = request.getfixturevalue("doctest_namespace")
    namespace["folder"] = request.getfixturevalue("tmp_path")
    if "huggingface" in str(request.node.path):
        namespace["gpt2"] = request.getfixturevalue("gpt2_folder")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer, as `save_pretrained` writes it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("gpt2")
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=8, n_embd=4, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
