import copy
import math

import numpy as np
import pytest
import torch
from cases import present
from torch import Tensor, nn

from symport.errors import DataError, ParamsError
from symport.model import has_batchnorm, reestimate


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 2 * 2, 5),
        nn.BatchNorm1d(5),
    )


def batches(sizes: tuple[int, ...] = (4, 7, 2)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [2 + 3 * torch.randn(n, 2, 4, 4, generator=generator) for n in sizes]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def plainly(model: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    """Torch's own cumulative average, on a copy of the model."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        for batch in inputs:
            model(batch)
    return state_of(model)


def test_statistics_are_those_of_torch_with_momentum_none():
    model = small()
    model(batches()[0])  # so that the statistics carried along are not the initial ones
    found = reestimate(model, model.state_dict(), batches())
    expected = plainly(model, batches())
    assert list(found) == list(model.state_dict())
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_statistics_by_formula_weigh_batches_equally():
    model = nn.BatchNorm1d(3)
    inputs = [torch.randn(n, 3, dtype=torch.float64) for n in (2, 50)]
    found = reestimate(model.double(), model.state_dict(), inputs)
    mean = (inputs[0].numpy().mean(0) + inputs[1].numpy().mean(0)) / 2
    variance = (inputs[0].numpy().var(0, ddof=1) + inputs[1].numpy().var(0, ddof=1)) / 2
    np.testing.assert_allclose(found["running_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["running_var"], variance, rtol=1e-12)
    assert int(found["num_batches_tracked"]) == 2


def test_given_parameters_count_not_the_models_own():
    model, other = small(), small()
    nn.init.normal_(other.get_parameter("0.weight"))
    found = reestimate(model, other.state_dict(), batches())
    assert all(torch.equal(found[n], t) for n, t in plainly(other, batches()).items())


def test_only_statistics_change_and_nothing_is_modified():
    model = small()
    model.train()
    model[3].eval()
    given = state_of(model)
    kept = {name: tensor.clone() for name, tensor in given.items()}
    found = reestimate(model, given, batches())
    changed = {name for name in given if not torch.equal(found[name], given[name])}
    assert changed == {f"{k}.{name}" for k in (1, 6) for name in BUFFERS}
    assert all(torch.equal(given[name], kept[name]) for name in kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model] == [k != 3 for k in range(7)]
    assert (model[1].momentum, model[6].momentum) == (0.3, 0.1)
    assert all(found[name].data_ptr() != given[name].data_ptr() for name in given)


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def test_dropout_is_off():
    model = small()
    found = [reestimate(model, model.state_dict(), batches()) for _ in range(2)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_network_without_batchnorm_comes_back_as_a_copy():
    model = nn.Linear(2, 2)
    given = state_of(model)
    found = reestimate(model, given, [])
    assert all(torch.equal(found[name], given[name]) for name in given)
    assert all(found[name].data_ptr() != given[name].data_ptr() for name in given)


def test_has_batchnorm_asks_for_running_statistics():
    assert has_batchnorm(small())
    assert not has_batchnorm(nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.Linear(3, 3)))
    assert not has_batchnorm(nn.BatchNorm1d(3, track_running_stats=False))
    assert not has_batchnorm(nn.InstanceNorm1d(3, track_running_stats=True))


class Branch(nn.Module):
    """One BatchNorm used twice under two names, and one that evaluation never reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.alias = self.norm
        self.auxiliary = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = self.auxiliary(x)
        return self.alias(1 + self.norm(x))


def test_a_shared_layer_has_the_same_statistics_under_all_of_its_names():
    model = Branch()
    inputs = [torch.randn(6, 2), torch.randn(5, 2)]
    found = reestimate(model, state_of(model), inputs)
    expected = plainly(model, inputs)
    for buffer in BUFFERS:
        assert torch.equal(found[f"norm.{buffer}"], expected[f"norm.{buffer}"])
        assert torch.equal(found[f"alias.{buffer}"], expected[f"norm.{buffer}"])
    assert int(found["norm.num_batches_tracked"]) == 4


def test_a_layer_that_is_not_reached_keeps_its_statistics():
    model = Branch()
    present(model.auxiliary.running_mean).fill_(7)
    present(model.auxiliary.num_batches_tracked).fill_(3)
    given = state_of(model)
    found = reestimate(model, given, [torch.randn(6, 2)])
    for buffer in BUFFERS:
        assert torch.equal(found[f"auxiliary.{buffer}"], given[f"auxiliary.{buffer}"])


def test_a_batch_too_small_for_a_variance_is_named():
    model = small()
    with pytest.raises(DataError, match=r"batch 2 of shape \(1, 2, 4, 4\): .*more than 1 value"):
        reestimate(model, model.state_dict(), batches((4, 4, 1)))
    assert model[1].momentum == 0.3


def test_no_batches_are_refused():
    with pytest.raises(DataError, match="there are no batches to re-estimate"):
        reestimate(small(), small().state_dict(), [])


def test_pairs_of_inputs_and_labels_are_refused_with_a_way_out():
    pairs = [(batches()[0], torch.zeros(4))]
    with pytest.raises(DataError, match=r"batch 0 is of type tuple.*inputs for inputs, labels in"):
        reestimate(small(), small().state_dict(), pairs)  # pyright: ignore[reportArgumentType]  # refused


def test_inputs_that_are_not_finite_are_noticed():
    inputs = batches()
    inputs[1][0, 0, 0, 0] = math.nan
    with pytest.raises(ParamsError, match=r"1\.running_mean: \d of 4 values of the re-estimated"):
        reestimate(small(), small().state_dict(), inputs)


def test_parameters_of_another_model_are_refused():
    with pytest.raises(ParamsError, match="the model has no tensor"):
        reestimate(small(), nn.Linear(2, 2).state_dict(), batches())


def test_batches_may_come_from_a_generator():
    model = small()
    found = reestimate(model, model.state_dict(), (batch for batch in batches()))
    assert int(found["1.num_batches_tracked"]) == 3
