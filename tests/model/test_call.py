import pytest
import torch
from nets import batch_norm_net, examples, net, same, weights
from torch import nn

from symport.errors import DataError
from symport.model import call, describe_shapes, evaluation, to_device
from symport.model._call import batch_statistics


def mixed_modes():
    model = batch_norm_net()
    model[3].eval()
    return model, [module.training for module in model.modules()]


def test_evaluation_mode_ends_with_every_module_as_it_was():
    model, before = mixed_modes()
    with evaluation(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def test_batch_statistics_are_for_batchnorm_alone():
    model, before = mixed_modes()
    with batch_statistics(model):
        training = [type(module) for module in model.modules() if module.training]
        assert training == [nn.BatchNorm1d]
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("mode", [evaluation, batch_statistics])
def test_modes_come_back_after_an_error(mode):
    model, before = mixed_modes()
    with pytest.raises(KeyError), mode(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before


def test_a_call_with_parameters_equals_loading_them():
    model, inputs = net(0), examples()[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = call(model, weights(5), inputs)
    assert same(model.state_dict(), before)
    assert torch.equal(outputs, net(5)(inputs))


class Weighted(nn.Module):
    def forward(self, x, *, factor, shift=0.0):
        return factor * x + shift


def test_inputs_may_be_positional_or_by_keyword():
    assert call(nn.Bilinear(1, 1, 1), {"weight": torch.full((1, 1, 1), 2.0), "bias": torch.ones(1)},
                (torch.tensor([[3.0]]), torch.tensor([[4.0]]))).item() == 25  # fmt: skip
    batch = {"x": torch.tensor(5.0), "factor": torch.tensor(2.0)}
    assert call(Weighted(), {}, batch) == 10


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(2, 9), r"inputs \(2, 9\) torch.float32 .*cannot be multiplied"),
        (torch.zeros(2, 4).double(), r"torch.float64 with weights of torch.float32: .*same dtype"),
        ((torch.zeros(2, 4), 1), r"inputs \[\(2, 4\) torch.float32, int\] .*positional arguments"),
        ({"pixels": torch.zeros(2, 4)}, r"\{pixels: \(2, 4\) torch.float32\} .*unexpected keyword"),
    ],
)
def test_inputs_that_the_model_cannot_take_are_named(inputs, message):
    with pytest.raises(DataError, match=message) as caught:
        call(net(), weights(0), inputs)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_no_fault_of_the_data():
    class Huge(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        call(Huge(), {}, torch.zeros(1))


def test_an_outline_names_shapes_and_dtypes_at_any_depth():
    batch = (torch.zeros(2), {"mask": torch.ones(3, 1, dtype=torch.bool), "n": None})
    assert describe_shapes(batch) == "[(2,) torch.float32, {mask: (3, 1) torch.bool, n: NoneType}]"


def test_every_tensor_of_a_batch_moves_to_the_device():
    batch = {"x": torch.zeros(2), "more": [torch.zeros(3), "text"]}
    moved = to_device(batch, torch.zeros(1, device="meta"))
    assert moved["x"].device.type == moved["more"][0].device.type == "meta"
    assert moved["more"][1] == "text"
    assert batch["x"].device.type == "cpu"
