import numpy as np
import pytest
import torch
from torch import nn

import symport
from symport.errors import DataError, SpecError
from symport.matching import Pair, Similarity, match
from symport.methods import ActivationMatching
from symport.model import activations, layers_of, rows_of, standardize, with_activations
from symport.spec import Permutation, PermutationSpec, permute
from tests import nets


class Attention(nn.Module):
    """Two heads of three units, and a convolution in front."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv1d(2, 4, 1)
        self.query, self.key, self.value = (nn.Linear(4, 6) for _ in range(3))
        self.out = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).mT
        q, k, v = (f(x).unflatten(-1, (2, 3)).transpose(1, 2)
                   for f in (self.query, self.key, self.value))  # fmt: skip
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


def attention(seed: int) -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Attention().eval(), torch.randn(40, 2, 6)


def test_columns_are_correlations_as_numpy_computes_them():
    model, _ = nets.net(0), nets.weights(0)
    inputs, _ = nets.examples(50)
    spec = with_activations(nets.spec(), model)
    first, second = (activations(model, nets.weights(seed), [inputs], spec) for seed in (1, 2))
    hidden = [(inputs @ w["0.weight"].T + w["0.bias"]).numpy()
              for w in (nets.weights(1), nets.weights(2))]  # fmt: skip
    expected = np.corrcoef(*hidden, rowvar=False)[:8, 8:]
    np.testing.assert_allclose(first["0:output"].T @ second["0:output"], expected, atol=1e-5)


def test_a_unit_that_always_answers_the_same_correlates_with_none():
    rows = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    assert standardize(rows)[:, 0].tolist() == [0, 0, 0]


def test_many_rows_are_thinned_evenly():
    rows = torch.arange(10_000.0)[:, None]
    assert len(standardize(rows)) == 3334


def test_activation_matching_finds_planted_heads_and_channels():
    model, inputs = attention(0)
    spec = symport.discover(model, inputs[:2])
    planted = Permutation.random(spec, torch.Generator().manual_seed(3))
    source = {name: t.detach().clone() for name, t in model.state_dict().items()}
    target = permute(source, spec, planted)
    extended = with_activations(spec, model)
    goal, moved = (activations(model, w, [inputs], extended) for w in (target, source))
    pair = Pair(goal, moved)
    found = match(extended, [pair]).permutation
    for name, tensor in permute(source, spec, found).items():
        torch.testing.assert_close(tensor, target[name], msg=name)


def test_norms_and_embeddings_answer_too():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5),
                        nn.LayerNorm(5), nn.Linear(5, 2))  # fmt: skip
    found = activations(net, net.state_dict(), [torch.randn(6, 1, 3, 3)],
                        spec := symport.discover(net, torch.randn(2, 1, 3, 3)))  # fmt: skip
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "0:output": (54, 4), "1:output": (54, 4), "3:output": (6, 5), "4:output": (6, 5),
    }  # fmt: skip
    words = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2))
    assert list(activations(words, words.state_dict(), [torch.arange(7)],
                            symport.discover(words, torch.arange(2)))) == ["0:output"]  # fmt: skip
    assert len(spec.groups) == 2


def test_activation_matching_is_a_method_without_labels():
    target, planted = nets.planted_target()
    method = ActivationMatching(nets.net(), [nets.examples()[0]])
    result = symport.transfer(nets.source(2), target, nets.spec(), method)
    assert result.permutation.equal(planted)
    assert result.evaluations == 0


@pytest.mark.parametrize("kind", [symport.FGMT, symport.GMT])
def test_activations_join_gradients_in_one_objective(kind, tmp_path):
    model, target = nets.net(), nets.weights(2)
    spec = with_activations(nets.spec(), model)
    inputs = [nets.examples()[0]]
    goal, moved = (activations(model, w, inputs, spec) for w in (target, nets.weights(1)))
    pair = Pair(goal, moved, 1e6)

    def run(also, folder=None):
        method = kind(nets.gradient(count=2), also=also)
        return symport.transfer(nets.source(2), target, spec, method, folder=folder)

    alone = ActivationMatching(model, inputs)
    by_activations = symport.transfer(nets.source(2), target, nets.spec(), alone)
    joint = run([pair], tmp_path)
    assert joint.permutation.equal(by_activations.permutation)  # they outweigh the gradients
    assert not run([]).permutation.equal(joint.permutation)
    with pytest.raises(symport.errors.FileError):  # another objective is another run
        run([], tmp_path)


def test_inputs_and_moving_layers_are_needed():
    with pytest.raises(DataError, match="at least one batch"):
        activations(nets.net(), nets.weights(0), [], nets.spec())
    still = PermutationSpec.parse({name: " ".join("." * t.ndim) for name, t in
                                   nets.weights(0).items()}, nets.weights(0))  # fmt: skip
    with pytest.raises(SpecError, match="no layer has outputs"):
        with_activations(still, nets.net())


@pytest.mark.parametrize("sizes", [[60], [25, 25, 10], [7] * 8 + [4]])
def test_a_few_layers_and_the_rows_that_count_give_the_same_as_all(monkeypatch, sizes):
    monkeypatch.setattr("symport.model._activations.MOST", 16)
    model, inputs = nets.net(), nets.examples()[0].split(sizes)
    whole = activations(model, nets.weights(2), inputs, nets.spec())
    rows = rows_of(model, nets.weights(2), inputs, nets.spec())
    assert layers_of(nets.spec(), model) == {"0": 8, "2": 6}
    assert rows == dict.fromkeys(("0", "2"), sum(sizes))
    found = {}
    for layer in ("0", "2"):
        found |= activations(model, nets.weights(2), inputs, nets.spec(), layers=[layer], rows=rows)
    assert nets.same(found, whole)
    assert len(whole["0:output"]) == -(-sum(sizes) // -(-sum(sizes) // 16)) <= 16


@pytest.mark.parametrize("kind", [symport.FGMT, symport.GMT])
def test_the_gains_of_activations_stand_for_the_pair(kind):
    model, target = nets.net(), nets.weights(2)
    spec = with_activations(nets.spec(), model)
    inputs = [nets.examples()[0]]
    goal, moved = (activations(model, w, inputs, spec) for w in (target, nets.weights(1)))
    pair = Pair(goal, moved, 0.1)
    similarity = Similarity(spec)
    similarity.add(Pair(pair.target, pair.source))

    def run(also):
        return symport.transfer(
            nets.source(3), target, spec, kind(nets.gradient(count=2), also=also)
        )

    by_pair, by_gains = run([pair]), run([similarity.linear_term().times(0.1)])
    assert by_gains.permutation.equal(by_pair.permutation)
    for one, other in zip(by_gains.history, by_pair.history, strict=True):
        assert one.objective == pytest.approx(other.objective, rel=1e-5)
    weights = Similarity(nets.spec())
    weights.add(Pair(target, nets.weights(1)))
    with pytest.raises(SpecError, match=r"2\.weight: several groups move it"):
        weights.linear_term()
