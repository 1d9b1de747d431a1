import pytest
import torch
from cases import present
from nets import same
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from symport.errors import SettingsError
from symport.model import LossGradient
from symport.model._activation_checkpointing import blocks_of, recomputing


class Block(nn.Module):
    """Counts its calls, and drops half of everything in training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x, *, scale=1.0):
        self.calls += 1
        return x + scale * torch.tanh(self.dropout(self.inner(x)))


class Net(nn.Module):
    """Two blocks in a list and a head; one may recompute by itself, as some models do."""

    def __init__(self, *, by_itself: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 3)
        self.by_itself = by_itself

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.by_itself else layer(x, scale=0.5)
        return self.head(x)


def weights(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {name: t.detach().clone() for name, t in Net().state_dict().items()}


def batch():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def by_hand(model, params):
    """The gradient of a model that has the parameters as its own."""
    model.load_state_dict(params)
    model.eval()
    functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
    return {name: present(parameter.grad) for name, parameter in model.named_parameters()}


def slope(model, **options):
    return LossGradient(model, functional.cross_entropy, [batch()], **options)


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_recomputing_gives_the_same_gradients_at_other_weights_than_the_models(micro_batch):
    model, params = Net(), weights(3)
    found = slope(model, activation_checkpointing=True, micro_batch=micro_batch)(params, 0)
    expected = by_hand(Net(), params)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[n], g, atol=1e-7) for n, g in expected.items())
    pieces = 1 if micro_batch is None else 3
    assert [layer.calls for layer in model.layers] == [2 * pieces] * 2  # forwards, and again
    assert all("forward" not in vars(layer) for layer in model.layers)


@pytest.mark.parametrize("failing", [False, True])
def test_a_forward_on_the_instance_is_called_and_is_there_afterwards(failing):
    model = Net()
    first, second = model.layers
    hooked = []

    def forward(x, **options):  # as the hooks of accelerate put one there
        hooked.append(len(x))
        return type(first).forward(first, x, **options)

    first.forward = forward
    before = [dict(vars(layer)) for layer in model.layers]
    try:
        with recomputing(model):
            assert first.forward is not forward
            model(batch()[0])
            if failing:
                raise RuntimeError  # noqa: TRY301 — what a user's loss may do
    except RuntimeError:
        assert failing
    assert hooked == [6]
    assert first.forward is forward
    assert [vars(layer) | {"calls": 0} for layer in model.layers] == before
    assert "forward" not in vars(second)


def test_hooks_of_accelerate_stay_on_the_blocks():
    hooks = pytest.importorskip("accelerate.hooks")
    model, params = Net(), weights(3)
    expected = by_hand(Net(), params)
    for layer in model.layers:
        hooks.add_hook_to_module(layer, hooks.ModelHook())
    own = [vars(layer)["forward"] for layer in model.layers]
    found = slope(model, activation_checkpointing=True)(params, 0)
    assert all(torch.allclose(found[n], g, atol=1e-7) for n, g in expected.items())
    assert [vars(layer)["forward"] for layer in model.layers] == own


def test_a_block_that_stands_twice_is_recomputed_once():
    block = Block()
    net = nn.ModuleDict({"layers": nn.ModuleList([block, block])})
    with recomputing(net):
        block(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert block.calls == 2
    assert "forward" not in vars(block)


def test_a_model_that_recomputes_by_itself_does_so_with_the_weights_it_was_called_with():
    params = weights(3)
    model = Net(by_itself=True)
    own = {name: t.clone() for name, t in model.state_dict().items()}
    found = slope(model)(params, 0)
    expected = by_hand(Net(by_itself=True), params)
    assert all(torch.allclose(found[n], g, atol=1e-7) for n, g in expected.items())
    assert same(model.state_dict(), own)


def test_less_is_kept_between_the_passes():
    def kept(activation_checkpointing):
        sizes = []
        model = Net().requires_grad_(True).eval()
        pack = torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel()) or t, lambda t: t
        )
        with pack:
            if activation_checkpointing:
                with recomputing(model):
                    model(batch()[0])
            else:
                model(batch()[0])
        return sum(sizes)

    assert kept(activation_checkpointing=True) < kept(activation_checkpointing=False)


def test_blocks_are_the_members_of_the_outermost_lists():
    first, second = nn.ModuleList([Net(), Net()]), Net()
    net = nn.ModuleDict({"a": first, "b": second})
    assert blocks_of(net) == [*first, *second.layers]


def test_a_network_without_lists_of_layers_is_refused():
    with pytest.raises(SettingsError, match="Sequential keeps no layers in a ModuleList"):
        slope(nn.Sequential(nn.Linear(4, 3)), activation_checkpointing=True)
