"""Two joined processes find what one finds alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import symport
from symport import distributed
from symport.errors import DataError, SettingsError
from symport.matching import Pair, match
from tests import nets
from tests.joined import in_two_processes, run_joined


def transferred() -> dict[str, Any]:
    """The permutations and objectives of a transfer, and the parameters at its end."""
    method = symport.FGMT(nets.gradient(count=3), normalize=True)
    result = symport.transfer(nets.source(3), nets.weights(2), nets.spec(), method)
    return {
        "processes": distributed.world_size(),
        "permutation": {g: index.tolist() for g, index in result.permutation.indices.items()},
        "objectives": [record.objective for record in result.history],
        "params": {name: tensor.tolist() for name, tensor in result.params.items()},
    }


def matched() -> dict[str, object]:
    """Weight matching with restarts, which moves all similarities about."""
    result = match(
        nets.spec(),
        [Pair(nets.weights(2), nets.weights(1))],
        restarts=3,
        generator=torch.Generator().manual_seed(0),
    )
    indices = {g: index.tolist() for g, index in result.permutation.indices.items()}
    return {"permutation": indices, "objectives": list(result.objectives)}


def sharded_net() -> torch.nn.Module:
    """The network of the tests, each layer and the whole cut in two."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = nets.net(), init_device_mesh("cpu", (distributed.world_size(),))
    for layer in [*model.children(), model]:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return model


def transferred_sharded() -> dict[str, Any]:
    """As `transferred`, with a model that FSDP2 has cut; and whether its weights are its own."""
    model = sharded_net()
    batches = [nets.examples(seed=k) for k in range(3)]
    loss = torch.nn.functional.cross_entropy
    gradient = symport.LossGradient(model, loss, batches, micro_batch=10)
    result = symport.transfer(
        nets.source(3), nets.weights(2), nets.spec(), symport.FGMT(gradient, normalize=True)
    )
    own = {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}
    return {
        "permutation": {g: index.tolist() for g, index in result.permutation.indices.items()},
        "objectives": [record.objective for record in result.history],
        "untouched": nets.same(own, nets.weights(0)),
    }


def refused() -> dict[str, str]:
    """What joined processes say to what they cannot do."""
    said: dict[str, str] = {}
    inputs, labels = nets.examples(1)
    small = symport.LossGradient(nets.net(), torch.nn.functional.cross_entropy, [(inputs, labels)])
    try:
        small(nets.weights(1), 0)
    except DataError as error:
        said["batch"] = str(error)
    try:
        method = symport.FGMT(nets.gradient())
        symport.transfer(nets.source(), nets.weights(2), nets.spec(), method, folder="unused")
    except SettingsError as error:
        said["folder"] = str(error)
    return said


def everything() -> dict[str, dict[str, Any]]:
    functions = (transferred, matched, transferred_sharded, refused)
    return {function.__name__: function() for function in functions}


@pytest.fixture(scope="module")
def in_both() -> dict[str, dict[str, Any]]:
    return in_two_processes("tests.test_distributed", "everything")


def test_two_processes_transfer_as_one_does(in_both):
    alone, joined = transferred(), dict(in_both["transferred"])
    assert (alone.pop("processes"), joined.pop("processes")) == (1, 2)
    assert joined["permutation"] == alone["permutation"]
    assert joined["objectives"] == pytest.approx(alone["objectives"], rel=1e-5)
    for name, values in alone["params"].items():
        torch.testing.assert_close(torch.tensor(joined["params"][name]), torch.tensor(values))


def test_two_processes_match_weights_as_one_does(in_both):
    alone, joined = matched(), in_both["matched"]
    assert joined["permutation"] == alone["permutation"]
    assert joined["objectives"] == pytest.approx(alone["objectives"], rel=1e-6)


def test_a_sharded_model_transfers_as_a_whole_one_does(in_both):
    alone, joined = transferred(), in_both["transferred_sharded"]
    assert joined["permutation"] == alone["permutation"]
    assert joined["objectives"] == pytest.approx(alone["objectives"], rel=1e-5)
    assert joined["untouched"]


def test_joined_processes_refuse_what_they_cannot_do(in_both):
    said = in_both["refused"]
    assert "a batch of 1 samples cannot be shared out among 2 processes" in said["batch"]
    assert "cannot resume" in said["folder"]


def test_a_single_process_is_alone():
    distributed.join()  # not started by torchrun
    tensor = torch.ones(2)
    distributed.all_reduce_([tensor])
    assert (distributed.rank(), distributed.world_size(), distributed.total(2.5)) == (0, 1, 2.5)
    assert tensor.tolist() == [1, 1]
    assert distributed.full_tensor(tensor) is tensor


LEAVING = """
import json, os, torch
from symport import distributed
distributed.join()
net = torch.nn.Linear(2, 1)
torch.optim.SGD(net.parameters())  # imports what has the group as a default argument
distributed.total(1.0)
distributed.leave()
threads = os.listdir("/proc/self/task")
print(json.dumps([open(f"/proc/self/task/{thread}/comm").read().strip() for thread in threads]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_leaving_ends_the_threads_of_the_group():
    for printed in run_joined("-c", LEAVING):
        assert not [name for name in json.loads(printed) if "gloo" in name or "store" in name]
