"""What is trained and written is kept in at least float32, whatever is computed in."""

import pytest
import torch
from cases import seeded
from safetensors.torch import save_file
from torch import nn

from symport.data import Labelled
from symport.huggingface import wide
from symport.huggingface._names import Names, open_named
from symport.io import open_checkpoint
from symport.lora import Adapter
from symport.params import is_rounded
from symport.selection import AdapterFactors, MasterWeights, SelectionProblem, Task
from symport.selection._early_stopping import DirectTraining, TrainingRules, train
from symport.settings import Rules, checked
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import Trajectory

SPEC = PermutationSpec.parse({"weight": ". h", "bias": "."}, sizes={"h": 6})
FLIP = Permutation({"h": torch.arange(5, -1, -1)})


def narrow(params):
    return {name: tensor.bfloat16() for name, tensor in params.items()}


def drawn(seed):
    draw = seeded(seed)
    sizes = {"weight": (4, 6), "bias": (4,)}
    return {name: 1 + 0.3 * torch.rand(size, generator=draw) for name, size in sizes.items()}


def masters():
    old, tuned, new = map(drawn, range(3))
    return MasterWeights(narrow(new), old, tuned, new, SPEC)


def selection_problem(space):
    """A linear model whose loss is the sum of its outputs: a gradient that is the same all along.

    Inputs are ±1, so that no gradient is 0.
    """
    inputs = torch.ones(4, 6, dtype=torch.bfloat16)
    inputs[:, ::2] = -1
    examples = Labelled(inputs, torch.zeros(4))
    way = Trajectory.linear(narrow(space.old), narrow(space.tuned), 1)
    task = Task(lambda inputs: inputs, lambda outputs, labels: outputs.float().sum(1) + 0 * labels)
    model = nn.Linear(6, 4, dtype=torch.bfloat16)
    return SelectionProblem(model, task, way, space.target_init, SPEC, space, examples, examples)


@pytest.mark.parametrize("length", [1.0, 0.4, 0.0])
def test_the_start_is_the_new_base_and_the_permuted_displacement_unrounded(length):
    space = masters()
    found = space.place(FLIP, length)
    move = {"weight": (space.tuned["weight"] - space.old["weight"]).flip(1)}
    move["bias"] = space.tuned["bias"] - space.old["bias"]
    for name, new in space.new.items():
        assert torch.allclose(found[name], new + length * move[name], rtol=0, atol=3e-7)
        assert found[name].dtype == torch.float32
        rounded = space.dense(found)[name]
        assert torch.equal(rounded, found[name].bfloat16())


def test_steps_that_bfloat16_would_lose_add_up():
    """Adam moves each weight by the learning rate where the gradient stays as it is.

    The weights lie between 1 and 1.3, where half a unit in the last place is 1/256.
    """
    space, lr, count = masters(), 1e-4, 32
    start = space.place(FLIP, 0.0)
    case = selection_problem(space)
    before = {name: tensor.clone() for name, tensor in start.items()}
    training, rules = DirectTraining(count, lr, 0.0, {}), checked(Rules, {"direct_batch_size": 4})
    found = train(case, start, case.training, training, TrainingRules.of(rules))
    sign = torch.tensor([-1.0, 1.0]).repeat(3)
    expected = {"weight": before["weight"] - count * lr * sign, "bias": before["bias"] - count * lr}
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-5), name
        assert torch.equal((before[name].bfloat16() - lr).bfloat16(), before[name].bfloat16())


def test_what_a_narrow_adapter_trains_is_wide_too():
    adapter = Adapter(
        {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["down"]},
        {
            "base_model.model.down.lora_A.weight": torch.ones(2, 6, dtype=torch.bfloat16),
            "base_model.model.down.lora_B.weight": torch.ones(4, 2, dtype=torch.bfloat16),
            "base_model.model.norm.weight": drawn(5)["bias"].bfloat16(),
        },
    )
    old, new = (
        {"down.weight": d["weight"], "norm.weight": d["bias"]} for d in (drawn(0), drawn(2))
    )
    spec = PermutationSpec.parse({"down.weight": ". h", "norm.weight": "."}, sizes={"h": 6})
    space = AdapterFactors(narrow(new), adapter, spec, old, new_base=new)
    found = space.place(FLIP, 0.3)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    own = adapter.tensors["base_model.model.norm.weight"].float()
    expected = new["norm.weight"] + 0.3 * (own - old["norm.weight"])
    assert torch.allclose(found["base_model.model.norm.weight"], expected, rtol=0, atol=3e-7)
    product = found["base_model.model.down.lora_B.weight"]
    assert torch.allclose(product, torch.full((4, 2), 0.3), rtol=0, atol=1e-7)


def test_a_file_is_read_in_its_own_width_and_at_least_float32(tmp_path):
    """What it lacks comes from memory, as a copy: what was read may be written over."""
    model = nn.Module()
    vars(model).update(
        base_model_prefix="",
        _keys_to_ignore_on_load_missing=["late"],
        _keys_to_ignore_on_load_unexpected=None,
    )
    for name, dtype in (("a", torch.bfloat16), ("b", torch.float64), ("late", torch.bfloat16)):
        model.register_parameter(name, nn.Parameter(torch.rand(3, dtype=dtype)))
    model.register_buffer("count", torch.tensor(3))
    held = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    save_file({name: t for name, t in held.items() if name != "late"}, tmp_path / "x.safetensors")
    memory = {name: torch.zeros_like(t) if name != "late" else t for name, t in held.items()}
    with open_named(tmp_path / "x.safetensors", Names(model)) as side:
        view = wide(side, memory)
        dtypes = {name: tensor.dtype for name, tensor in view.outline().items()}
        for name, tensor in held.items():
            assert view[name].dtype == dtypes[name]
            assert torch.equal(view[name], tensor.to(dtypes[name]))
        view["late"].zero_()
        assert view["late"].all()
    kept = {"a": torch.float32, "b": torch.float64, "late": torch.float32, "count": torch.int64}
    assert dtypes == kept
    with open_checkpoint(tmp_path / "x.safetensors") as checkpoint:
        outline = checkpoint.outline()
    assert is_rounded(outline, torch.float32)
    assert not is_rounded(outline, torch.float64)
    assert is_rounded({"a": outline["a"]}, torch.bfloat16)
    assert not is_rounded({"a": outline["a"]}, torch.float32)
