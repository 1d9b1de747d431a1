import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Generator

from symport.errors import ParamsError
from symport.matching import TIE_BREAK, assign
from symport.matching import _assignment as assignment

SOLVERS = ("scipy", "reduced", "compiled")


def only(solver, patch):
    """Solve with scipy from nothing, scipy on reduced costs, or compiled code, at any size."""
    if solver == "compiled":
        pytest.importorskip("numba")
    patch.setattr(assignment, "COMPILED_FROM", 0 if solver == "compiled" else 10**6)
    patch.setattr(assignment, "REDUCED_FROM", 0 if solver == "reduced" else 10**6)


@pytest.fixture(params=SOLVERS)
def solver(request, monkeypatch):
    only(request.param, monkeypatch)
    return request.param


def value(similarity, index):
    return float(similarity.double()[torch.arange(len(index)), index].sum())


def kept(index, start):
    return int((torch.as_tensor(index) == start).sum())


def is_permutation(index, n):
    return index.dtype == torch.int64 and torch.equal(index.sort().values, torch.arange(n))


def gaussian(n, generator):
    return torch.randn(n, n, generator=generator, dtype=torch.float64)


def low_rank(n, generator):
    left, right = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for _ in "ab")
    return left @ right.T


def heavy_tailed(n, generator):
    scales = [(3 * torch.randn(n, generator=generator, dtype=torch.float64)).exp() for _ in "ab"]
    return scales[0][:, None] * gaussian(n, generator) * scales[1]


def dead(n, generator):
    matrix = low_rank(n, generator)
    matrix[torch.rand(n, generator=generator) < 0.3] = 0
    matrix[:, torch.rand(n, generator=generator) < 0.2] = 0
    return matrix


def tied(n, generator):
    return torch.randint(-2, 3, (n, n), generator=generator).double()


def constant(n, generator):
    return torch.full((n, n), -3.5, dtype=torch.float64)


MATRICES = (gaussian, low_rank, heavy_tailed, dead, tied, constant)


def starts(similarity, generator):
    """The identity, any permutation, and the answer with a few units exchanged."""
    n = len(similarity)
    best = torch.as_tensor(linear_sum_assignment(similarity.numpy(), maximize=True)[1])
    near = best.clone()
    few = torch.randperm(n, generator=generator)[: max(2, n // 10)]
    near[few] = best[few.roll(1)]
    return [None, torch.randperm(n, generator=generator), best, near]


small_matrices = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(-3, 3), min_size=n, max_size=n), min_size=n, max_size=n)
)


@pytest.mark.parametrize("solver", SOLVERS)
@given(rows=small_matrices, data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_answer_is_the_best_of_all_permutations_and_keeps_most_of_the_start(solver, rows, data):
    similarity = torch.tensor(rows)
    n = len(similarity)
    start = torch.tensor(data.draw(st.permutations(range(n))))
    everything = [torch.tensor(p) for p in itertools.permutations(range(n))]
    best = max(value(similarity, p) for p in everything)
    most = max(kept(p, start) for p in everything if value(similarity, p) == best)
    with pytest.MonkeyPatch.context() as patch:
        only(solver, patch)
        found = assign(similarity, start)
    assert value(similarity, found) == best
    assert kept(found, start) == most


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [1, 2, 7, 64, 131])
def test_the_value_is_that_of_scipy_from_every_start(solver, matrix, n):
    generator = Generator().manual_seed(n)
    similarity = matrix(n, generator)
    rows, columns = linear_sum_assignment(similarity.numpy(), maximize=True)
    best = float(similarity.numpy()[rows, columns].sum())
    for start in starts(similarity, generator):
        found = assign(similarity, start)
        assert is_permutation(found, n)
        shortfall = 2 * n * TIE_BREAK * float(similarity.abs().max())  # 2: round-off of the sums
        assert abs(value(similarity, found) - best) <= shortfall


def test_a_planted_permutation_is_found(solver):
    generator = Generator().manual_seed(0)
    units = torch.randn(200, 30, generator=generator)
    planted = torch.randperm(200, generator=generator)
    noise = torch.randn(200, 30, generator=generator)
    similarity = (units[planted] + 0.2 * noise) @ units.T
    assert torch.equal(assign(similarity), planted)


def test_an_optimal_start_is_returned_as_it_is(solver):
    generator = Generator().manual_seed(1)
    for matrix in MATRICES:
        similarity = matrix(90, generator)
        best = torch.as_tensor(linear_sum_assignment(similarity.numpy(), maximize=True)[1])
        assert torch.equal(assign(similarity, best), best)


def test_units_dead_in_both_networks_stay_where_they_are(solver):
    generator = Generator().manual_seed(2)
    n, alive = 120, 80
    start = torch.randperm(n, generator=generator)
    similarity = torch.zeros(n, n, dtype=torch.float64)
    live = start[:alive].roll(1)  # the live units want to move, the dead ones do not care
    block = torch.rand(alive, alive, generator=generator, dtype=torch.float64)
    similarity[:alive, live] = block + 10 * torch.eye(alive, dtype=torch.float64)
    found = assign(similarity, start)
    assert torch.equal(found[:alive], live)
    assert torch.equal(found[alive:], start[alive:])


def test_without_any_similarity_nothing_moves(solver):
    start = torch.tensor([2, 0, 1, 3])
    assert torch.equal(assign(torch.zeros(4, 4), start), start)
    assert torch.equal(assign(torch.zeros(4, 4)), torch.arange(4))
    assert assign(torch.zeros(0, 0)).shape == (0,)


def test_the_answer_along_a_drift_is_that_of_scipy(solver):
    generator = Generator().manual_seed(3)
    total = torch.zeros(100, 100, dtype=torch.float64)
    current = None
    for _ in range(12):
        total += low_rank(100, generator) + 0.1 * gaussian(100, generator)
        current = assign(total, current)
        rows, columns = linear_sum_assignment(total.numpy(), maximize=True)
        assert value(total, current) == pytest.approx(total.numpy()[rows, columns].sum(), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1e8, 1e200])
def test_the_unit_of_the_similarity_does_not_matter(solver, scale):
    similarity = gaussian(70, Generator().manual_seed(4))
    assert torch.equal(assign(similarity * scale), assign(similarity))


def test_the_same_input_gives_the_same_answer_in_threads(solver):
    generator = Generator().manual_seed(5)
    matrices = [tied(80, generator) for _ in range(8)]
    alone = [assign(matrix) for matrix in matrices]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(assign, matrices))
    assert all(map(torch.equal, alone, together))


def test_inputs_are_left_as_they_are(solver):
    similarity = gaussian(60, Generator().manual_seed(6))
    start = torch.arange(60).flip(0)
    copies = similarity.clone(), start.clone()
    found = assign(similarity, start)
    found += 1
    assert torch.equal(similarity, copies[0])
    assert torch.equal(start, copies[1])


def test_the_answer_never_shares_memory_with_the_start(solver):
    start = torch.arange(5)
    found = assign(torch.zeros(5, 5), start)
    found += 1
    assert torch.equal(start, torch.arange(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_other_types_are_converted(solver, dtype):
    similarity = (10 * gaussian(60, Generator().manual_seed(7))).to(dtype)
    assert torch.equal(assign(similarity), assign(similarity.double()))
    assert torch.equal(assign(similarity, torch.arange(60, dtype=torch.int32)), assign(similarity))


def test_layout_and_gradients_do_not_matter(solver):
    generator = Generator().manual_seed(8)
    similarity = gaussian(60, generator)
    start = torch.randperm(60, generator=generator)
    columns_first = similarity.T.contiguous().T.requires_grad_()
    every_other = start.repeat_interleave(2)[::2]
    assert torch.equal(assign(columns_first, every_other), assign(similarity, start))


def test_without_numba_the_value_is_the_same(monkeypatch):
    similarity = dead(100, Generator().manual_seed(9))
    usual = assign(similarity)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "symport.matching._shortest_paths", raising=False)
    assignment._compiled.cache_clear()
    try:
        assert assignment._compiled() is None
        assert value(similarity, assign(similarity)) == pytest.approx(value(similarity, usual))
    finally:
        assignment._compiled.cache_clear()


def test_importing_it_loads_no_solver():
    code = (
        "import sys, symport.matching._assignment\n"
        "heavy = {'numba', 'scipy.optimize'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shape", [(3, 4), (3,), (2, 2, 2)])
def test_a_matrix_that_is_not_square_is_refused(shape):
    with pytest.raises(ParamsError, match=r"similarity has shape \(.*\), not \(n, n\)"):
        assign(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_matrix_that_is_not_finite_is_refused(bad):
    similarity = torch.ones(3, 3)
    similarity[1, 2] = bad
    with pytest.raises(ParamsError, match=r"shape \(3, 3\) holds NaN or infinity"):
        assign(similarity)


@pytest.mark.parametrize(
    "start", [[0, 0, 1], [0, 1], [1, 2, 3], [-1, 0, 1], [0.0, 1.0, 2.0], [[0, 1, 2]], [True] * 3]
)
def test_a_start_that_is_no_permutation_is_refused(start):
    with pytest.raises(ParamsError, match="start is not a permutation of 3 units"):
        assign(torch.ones(3, 3), torch.tensor(start))


def test_the_compiled_search_takes_the_free_column_among_equally_near_ones():
    augment = pytest.importorskip("symport.matching._shortest_paths")
    distance, rows = np.array([2.0, 1.0, 1.0, 1.0]), np.array([0, 1, -1, 2])
    assert augment._nearest(distance, rows) == 2
