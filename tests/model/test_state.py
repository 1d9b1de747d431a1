import pytest
import torch
from torch import Tensor, nn

from symport.errors import ParamsError
from symport.model import call, own_tensors, state_for


class Tied(nn.Module):
    """A decoder that shares its weight with the encoder, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight
        self.calls = nn.Buffer(torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.decoder(self.encoder(x))


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_a_call_reads_only_the_given_parameters():
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval() for _ in range(2))
    other.get_buffer("1.running_mean").fill_(2)
    x = torch.randn(4, 2)
    assert torch.equal(call(model, state_for(model, other.state_dict()), x), other(x))


def test_tied_weights_may_come_under_one_name_or_under_all():
    torch.manual_seed(0)
    model, other = Tied(), Tied()
    x = torch.randn(4, 3)
    every = copied(other)
    assert set(every) == {"encoder.weight", "decoder.weight"}
    for names in (["encoder.weight"], ["decoder.weight"], list(every)):
        state = state_for(model, {name: every[name] for name in names})
        assert torch.equal(call(model, state, x), other(x))


def test_tied_weights_that_differ_are_refused():
    model = Tied()
    state = copied(model)
    state["decoder.weight"][0, 0] += 1
    with pytest.raises(ParamsError, match=r"encoder.weight and decoder.weight are one tensor"):
        state_for(model, state)


def test_a_call_updates_neither_the_model_nor_the_given_buffers():
    model = nn.BatchNorm1d(2)
    given = copied(model)
    call(model.train(), state_for(model, given), torch.randn(5, 2))
    assert all(torch.equal(given[name], tensor) for name, tensor in model.state_dict().items())
    assert int(given["num_batches_tracked"]) == 0
    tied = Tied()
    call(tied, state_for(tied, tied.state_dict()), torch.ones(1, 3))
    assert tied.calls == 0


def test_parameters_that_do_not_fit_are_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = copied(model)
    with pytest.raises(ParamsError, match=r"lack 0\.bias, 1\.running_mean, which the model has"):
        state_for(model, {n: t for n, t in state.items() if n not in ("0.bias", "1.running_mean")})
    with pytest.raises(ParamsError, match=r"the model has no tensor 2\.weight"):
        state_for(model, {**state, "2.weight": torch.ones(1)})
    with pytest.raises(ParamsError, match=r"0\.weight: its shape is \(5,\), in the model \(3, 2\)"):
        state_for(model, {**state, "0.weight": torch.ones(5)})


def test_extra_state_is_no_tensor():
    class Extra(nn.Linear):
        def get_extra_state(self) -> object:
            return {"version": 1}

        def set_extra_state(self, state: object) -> None:
            pass

    model = Extra(2, 2)
    assert set(own_tensors(model)) == {"weight", "bias"}
    assert set(state_for(model, own_tensors(model))) == {"weight", "bias"}
