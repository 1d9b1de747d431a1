import pytest
import torch
from nets import batch_norm_net, examples, gradient, net, same, weights
from torch.nn import functional

from symport.data import Labelled, ShuffledBatches
from symport.errors import ParamsError, SettingsError
from symport.model import LossGradient, train_directly, train_directly_


def torch_adam(model, batches, steps, lr):
    """The loop of every tutorial."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        inputs, labels = batches[step % len(batches)]
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model.state_dict()


def alike(found, expected):
    """To round-off: torch sums in another order where it makes one pass of a step."""
    return found.keys() == expected.keys() and all(
        torch.allclose(found[name], tensor, rtol=1e-5, atol=1e-7)
        for name, tensor in expected.items()
    )


@pytest.mark.parametrize("count", [1, 3])
def test_training_is_what_adam_does_to_the_model(count):
    batches = [examples(seed=k) for k in range(count)]
    found = train_directly(gradient(count=count), weights(2), steps=10, lr=0.01)
    assert alike(found, torch_adam(net(2), batches, 10, 0.01))


def test_batches_may_be_drawn():
    drawn = ShuffledBatches(Labelled(*examples()), size=16, count=10, seed=3)
    slope = LossGradient(net(), functional.cross_entropy, drawn)
    found = train_directly(slope, weights(2), steps=10)
    assert alike(found, torch_adam(net(2), drawn, 10, 1e-3))


def test_training_lowers_the_loss():
    inputs, labels = examples()
    params = train_directly(gradient(), weights(2), steps=50, lr=0.01)

    def loss(state):
        model = net()
        model.load_state_dict(state)
        return functional.cross_entropy(model(inputs), labels).item()

    assert loss(params) < 0.7 * loss(weights(2))


def test_batchnorm_keeps_the_statistics_it_had():
    slope = LossGradient(batch_norm_net(), functional.cross_entropy, [examples()])
    start = {name: tensor.clone() for name, tensor in batch_norm_net(2).state_dict().items()}
    found = train_directly(slope, start, steps=3)
    statistics = dict(batch_norm_net().named_buffers())
    assert all(torch.equal(found[name], start[name]) for name in statistics)
    assert not any(
        torch.equal(found[f"4.{name}"], start[f"4.{name}"]) for name in ("weight", "bias")
    )


def test_what_comes_in_is_not_changed_and_what_comes_out_is_new():
    start = weights(2)
    untouched = train_directly(gradient(), start, steps=0)
    assert same(untouched, start)
    assert all(untouched[name].data_ptr() != start[name].data_ptr() for name in start)
    result = train_directly(gradient(), start, steps=3)
    assert same(start, weights(2))
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in result.values())


def test_each_step_costs_one_gradient():
    slope = gradient()
    train_directly(slope, weights(2), steps=7)
    assert slope.evaluations == 7


def test_divergence_is_reported():
    with pytest.raises(ParamsError, match="NaN or infinity"):
        train_directly(gradient(), weights(2), steps=20, lr=1e30)


@pytest.mark.parametrize(("steps", "lr"), [(-1, 0.1), (1, 0.0), (1, -0.1), (1, float("inf")),
                                           (1, float("nan"))])  # fmt: skip
def test_settings_out_of_range_are_refused(steps, lr):
    with pytest.raises(SettingsError, match=f"steps={steps} and lr={lr}"):
        train_directly(gradient(), weights(2), steps=steps, lr=lr)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_every_dtype_is_trained_in_its_own(dtype):
    inputs, labels = examples()
    model = net(2).to(dtype)
    slope = LossGradient(net(), functional.cross_entropy, [(inputs.to(dtype), labels)])
    found = train_directly(slope, model.state_dict(), steps=3, lr=0.01)
    expected = torch_adam(model, [(inputs.to(dtype), labels)], 3, 0.01)
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        assert torch.allclose(tensor.double(), expected[name].double(), atol=1e-2)


def test_in_place_the_tensors_themselves_are_trained():
    start, state = weights(2), weights(2)
    train_directly_(gradient(), state, steps=3)
    assert same(state, train_directly(gradient(), start, steps=3))
    assert not same(state, start)
    assert all(tensor.grad is None for tensor in state.values())
