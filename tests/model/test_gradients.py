import gc
import weakref

import pytest
import torch
from cases import present
from nets import batch_norm_net, examples, gradient, net, same, source, weights
from torch import nn
from torch.nn import functional

from symport.errors import DataError, ParamsError, SettingsError
from symport.model import LossGradient

cross_entropy = functional.cross_entropy


def by_hand(model, params, inputs, labels):
    """Load, run, go back: what every training loop does."""
    model.load_state_dict(params)
    cross_entropy(model(inputs), labels).backward()
    return {name: present(p.grad) for name, p in model.named_parameters()}


def test_the_gradient_is_that_of_a_training_loop():
    inputs, labels = examples()
    found = LossGradient(net(), cross_entropy, [(inputs, labels)])(weights(3), 0)
    assert same(found, by_hand(net(), weights(3), inputs, labels))


def test_the_gradient_is_the_slope_of_the_loss():
    params = {name: tensor.double() for name, tensor in weights(3).items()}
    inputs, labels = examples()
    model = net().double()
    grads = LossGradient(model, cross_entropy, [(inputs.double(), labels)])(params, 0)

    def loss(shift):
        moved = {name: tensor + shift * grads[name] for name, tensor in params.items()}
        return cross_entropy(torch.func.functional_call(model, moved, inputs.double()), labels)

    rise = float(loss(1e-5) - loss(-1e-5)) / 2e-5
    assert rise == pytest.approx(sum(float(g.square().sum()) for g in grads.values()), rel=1e-6)


def test_batchnorm_uses_the_batch_and_dropout_is_off():
    inputs, labels = examples()
    model = batch_norm_net()
    params = {name: tensor.clone() for name, tensor in batch_norm_net(4).state_dict().items()}
    found = LossGradient(model.eval(), cross_entropy, [(inputs, labels)])(params, 0)
    witness = batch_norm_net()
    witness[3] = torch.nn.Identity()
    assert same(found, by_hand(witness, params, inputs, labels))


def test_nothing_that_was_passed_in_is_changed():
    inputs, labels = examples()
    model = batch_norm_net()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    params = {name: tensor.clone() for name, tensor in batch_norm_net(4).state_dict().items()}
    before = {name: tensor.clone() for name, tensor in params.items()}
    LossGradient(model, cross_entropy, [(inputs, labels)])(params, 0)
    assert same(params, before)
    assert same(model.state_dict(), own)
    assert all(p.grad is None for p in model.parameters())
    assert not any(tensor.requires_grad for tensor in params.values())


@pytest.mark.parametrize("size", [1, 7, 30, 60, 100])
def test_micro_batches_have_the_mean_of_the_batch(size):
    whole, pieces = (
        LossGradient(net(), cross_entropy, [examples()], micro_batch=n)(weights(3), 0)
        for n in (None, size)
    )
    for name, tensor in whole.items():
        assert torch.allclose(pieces[name], tensor, atol=1e-6)


def test_step_t_uses_batch_t_and_begins_again_at_the_end():
    several = gradient(count=3)
    for step in range(7):
        alone = LossGradient(net(), cross_entropy, [examples(seed=step % 3)])
        assert same(several(weights(3), step), alone(weights(3), 0))


def test_parameters_out_of_reach_have_the_gradient_zero_and_frozen_ones_none():
    model = nn.ModuleDict({"used": nn.Linear(4, 3), "idle": nn.Linear(2, 2)})
    model.forward = model["used"].forward
    model["used"].bias.requires_grad_(False)
    grads = LossGradient(model, cross_entropy, [examples()])(model.state_dict(), 0)
    assert list(grads) == ["used.weight", "idle.weight", "idle.bias"]
    assert not grads["idle.weight"].any()


def test_batches_may_be_tuples_or_mappings():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, pixels, scale):
            return self.net(pixels * scale)

    (inputs, labels), scale = examples(), torch.tensor(2.0)
    params = {f"net.{name}": tensor for name, tensor in weights(3).items()}
    expected = by_hand(net(), weights(3), 2 * inputs, labels)
    for batch in ((inputs, scale), {"pixels": inputs, "scale": scale}):
        for micro_batch in (None, 60, 25):
            slope = LossGradient(Named(), cross_entropy, [(batch, labels)], micro_batch=micro_batch)
            for name, tensor in slope(params, 0).items():
                assert torch.allclose(tensor, expected[name.removeprefix("net.")], atol=1e-6)


def test_labels_may_be_part_of_the_inputs():
    class Scoring(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, inputs, labels):
            return cross_entropy(self.net(inputs), labels)

    inputs, labels = examples()
    params = {f"net.{name}": tensor for name, tensor in weights(3).items()}
    batch = ({"inputs": inputs, "labels": labels}, None)
    found = LossGradient(Scoring(), lambda loss, _: loss, [batch])(params, 0)
    expected = by_hand(net(), weights(3), inputs, labels)
    assert all(torch.equal(found[f"net.{name}"], tensor) for name, tensor in expected.items())


def test_the_dtype_is_that_of_the_parameters():
    half = {name: tensor.bfloat16() for name, tensor in weights(3).items()}
    inputs, labels = examples()
    grads = LossGradient(net(), cross_entropy, [(inputs.bfloat16(), labels)])(half, 0)
    assert {tensor.dtype for tensor in grads.values()} == {torch.bfloat16}


def test_gradients_along_a_trajectory_are_computed_once():
    slope, trajectory = gradient(count=2), source(4)
    along = slope.along(trajectory)
    assert slope.evaluations == 0
    for step in (2, 0, 2, 3):
        assert same(along[step], gradient(count=2)(trajectory[step], step))
    assert slope.evaluations == 3
    slope.along(trajectory)[3]
    assert slope.evaluations == 3
    slope.along(source(4))[3]
    assert slope.evaluations == 4
    assert slope.elapsed_seconds > 0


def test_gradients_are_forgotten_with_their_trajectory():
    slope, trajectory = gradient(), source(2)
    gone = weakref.ref(trajectory), weakref.ref(slope.along(trajectory)[1]["0.weight"])
    del trajectory
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_gradients_along_a_trajectory_that_nobody_else_holds_can_be_read():
    assert same(gradient().along(source(2))[1], gradient()(source(2)[1], 1))


def test_the_digest_changes_with_the_batches_and_with_nothing_else():
    assert gradient(seed=1).digest() == gradient(seed=1).digest()
    inputs, labels = examples()
    others = [
        gradient(seed=1),
        gradient(count=2),
        LossGradient(net(), cross_entropy, [examples()], micro_batch=7),
        LossGradient(net(), cross_entropy, [(inputs, labels.int())]),
        LossGradient(net(), cross_entropy, [(inputs.reshape(30, 8), labels)]),
        LossGradient(net(), cross_entropy, [((inputs, torch.tensor(1.0)), labels)]),
        LossGradient(net(), cross_entropy, [((inputs, torch.tensor(2.0)), labels)]),
        LossGradient(net(), cross_entropy, [({"x": inputs.flip(0)}, labels)]),
    ]
    digests = [gradient().digest(), *(other.digest() for other in others)]
    assert len(set(digests)) == len(digests)


def test_the_digest_reads_views_as_they_are_seen():
    inputs, labels = examples()
    sliced = LossGradient(net(), cross_entropy, [(inputs[::2], labels[::2])])
    copied = LossGradient(net(), cross_entropy, [(inputs[::2].clone(), labels[::2].clone())])
    assert sliced.digest() == copied.digest()


@pytest.mark.parametrize("wrong", [3, 250, -1])
def test_labels_out_of_range_are_refused(wrong):
    inputs, labels = examples()
    labels[17] = wrong
    with pytest.raises(DataError, match=rf"batch 0: .*Target {wrong} is out of.*number of classes"):
        LossGradient(net(), cross_entropy, [(inputs, labels)])(weights(3), 0)


def test_labels_that_the_loss_cannot_take_are_refused():
    inputs, labels = examples()
    message = r"batch 1: the loss failed on outputs \(60, 3\) torch.float32 and labels "
    for odd, shown in ((labels.float(), r"\(60,\) torch.float32"), (labels[:, None], r"\(60, 1\)")):
        with pytest.raises(DataError, match=message + shown):
            LossGradient(net(), cross_entropy, [(inputs, labels), (inputs, odd)])(weights(3), 1)


def test_inputs_that_the_model_cannot_take_are_refused():
    inputs, labels = examples()
    with pytest.raises(DataError, match=r"fails on inputs \(60, 3\) .*cannot be multiplied"):
        LossGradient(net(), cross_entropy, [(inputs[:, :3], labels)])(weights(3), 0)
    with pytest.raises(DataError, match=r"torch.float64 with weights of torch.float32"):
        LossGradient(net(), cross_entropy, [(inputs.double(), labels)])(weights(3), 0)


def test_no_batches_and_empty_batches_are_refused():
    with pytest.raises(DataError, match="no batches: matching needs at least one"):
        LossGradient(net(), cross_entropy, [])
    empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(DataError, match="batch 1 is empty"):
        LossGradient(net(), cross_entropy, [examples(), empty])(weights(3), 1)
    with pytest.raises(SettingsError, match="micro_batch must be at least 1, not 0"):
        LossGradient(net(), cross_entropy, [examples()], micro_batch=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_gradients_that_are_not_finite_are_refused(bad):
    broken = {**weights(3), "4.bias": torch.tensor([0.0, bad, 0.0])}
    with pytest.raises(ParamsError, match="gradient on batch 0 holds NaN or infinity"):
        gradient()(broken, 0)
    inputs, labels = examples()
    inputs[5, 1] = bad
    with pytest.raises(ParamsError, match="check the weights and the inputs"):
        LossGradient(net(), cross_entropy, [(inputs, labels)])(weights(3), 0)


def test_integer_weights_are_refused():
    integers = {name: (10 * tensor).int() for name, tensor in weights(3).items()}
    with pytest.raises(ParamsError, match=r"0\.weight: is of torch.int32.*floating-point"):
        gradient()(integers, 0)


def test_parameters_of_another_network_are_refused():
    with pytest.raises(ParamsError, match=r"lack 4\.bias"):
        gradient()({n: t for n, t in weights(3).items() if n != "4.bias"}, 0)
    with pytest.raises(ParamsError, match="no tensor extra"):
        gradient()({**weights(3), "extra": torch.zeros(1)}, 0)
    with pytest.raises(ParamsError, match=r"4\.bias: its shape is \(4,\), in the model \(3,\)"):
        gradient()({**weights(3), "4.bias": torch.zeros(4)}, 0)


def test_a_model_without_trained_parameters_is_refused():
    with pytest.raises(ParamsError, match="no parameter that requires a gradient"):
        LossGradient(net().requires_grad_(False), cross_entropy, [examples()])(weights(3), 0)


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (lambda outputs, labels: outputs, r"\(60, 3\)"),
        (lambda outputs, labels: 0.5, "float"),
        (lambda outputs, labels: outputs.detach().sum(), r"\(\)"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(loss, shown):
    with pytest.raises(SettingsError, match=rf"scalar tensor that depends on .* not {shown}"):
        LossGradient(net(), loss, [examples()])(weights(3), 0)
