"""What examples in docstrings find beside the names of their module.

`folder`: a new empty one. In `huggingface`, `gpt2`: a tiny model folder. In `port`, `models`: the
folders of an old base, its fine-tune and a new base. In `selection`, `problem` and `outcome`: those
of the example of `select`.
"""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _names_in_examples(request: pytest.FixtureRequest) -> None:
    """Examples would repeat these lines."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    namespace: dict[str, Any] = request.getfixturevalue("doctest_namespace")
    namespace["folder"] = request.getfixturevalue("tmp_path")
    room = request.node.path.parent.name
    if room == "huggingface":
        namespace["gpt2"] = request.getfixturevalue("gpt2_folder")
    if room == "port":
        namespace["models"] = request.getfixturevalue("model_folders")
    if room == "selection":
        namespace["problem"], namespace["outcome"] = request.getfixturevalue("selection_example")


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


@pytest.fixture(scope="session")
def model_folders(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a port that name models: each base is the one before, trained further."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folders = {"old_base": str(gpt2_folder)}
    model = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder)
    for name in ("tuned", "new_base"):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            for tensor in model.parameters():
                tensor.add_(1e-3 * torch.randn_like(tensor))
        folders[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def selection_example() -> tuple[Any, Any]:
    """The problem of the example of `select`, and its outcome."""
    import torch

    from symport.data import Labelled
    from symport.selection import SelectionProblem, Task, WholeWeights, select
    from symport.settings import Rules
    from symport.spec import PermutationSpec
    from symport.trajectory import Trajectory

    def errors(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        return (outputs - labels)[:, 0] ** 2

    start, end = {"weight": torch.zeros(1, 1)}, {"weight": torch.ones(1, 1)}
    source = Trajectory.linear(start, end, steps=2)
    spec = PermutationSpec.parse({"weight": ". ."}, start)
    whole = WholeWeights(start, source.displacement(2), spec)
    model, task = torch.nn.Linear(1, 1, bias=False), Task(lambda inputs: inputs, errors)
    data = Labelled(torch.ones(8, 1), torch.ones(8, 1))
    problem = SelectionProblem(model, task, source, start, spec, whole, data, data)
    return problem, select(problem, Rules(steps=2, folds=2, direct_steps=2), folder=None)
