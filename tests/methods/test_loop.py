import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from cases import present
from nets import accuracy, gradient, planted_target, source, spec, trained, weights

from symport.errors import FileError, ParamsError, SettingsError, SpecError
from symport.io import load_tensors
from symport.matching import Pair, Similarity
from symport.methods import (
    FGMT,
    GMT,
    Candidate,
    GivenPermutation,
    Identity,
    Method,
    Oracle,
    Problem,
    State,
    WeightMatching,
    explore,
    transfer,
)
from symport.params import add
from symport.spec import Permutation, PermutationSpec, permute
from symport.trajectory import Trajectory


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_identity_adds_the_displacement_as_it_is():
    trajectory = source()
    result = transfer(trajectory, weights(2), spec(), Identity())
    assert same(result.params, add(weights(2), trajectory.displacement(5)))


def test_the_identity_onto_the_source_itself_gives_the_trained_source():
    result = transfer(source(), weights(1), spec(), Identity())
    for name, tensor in trained(weights(1)).items():
        assert torch.allclose(result.params[name], tensor, atol=1e-6)


def test_weight_matching_and_the_oracle_find_a_planted_permutation():
    target, permutation = planted_target()
    goal = permute(trained(weights(1)), spec(), permutation)
    for method in (WeightMatching(), Oracle(goal), GivenPermutation(permutation)):
        assert transfer(source(), target, spec(), method).permutation.equal(permutation)


def test_a_method_of_ten_lines_joins_the_loop():
    class Reversed(Method):
        name = "reversed"

        def init(self, problem):
            return State(Permutation.identity(problem.spec))

        def step(self, problem, state, step):
            flipped = {n: i.flip(-1) for n, i in state.permutation.indices.items()}
            return State(Permutation(flipped))

    result = transfer(source(2), weights(2), spec(), Reversed(), score=accuracy)
    assert [record.moved for record in result.history] == [1.0, 0.0]


def test_the_best_of_the_steps_the_scales_and_the_untouched_target_is_chosen():
    scores = {}

    def score(params):
        scores[len(scores)] = accuracy(params)
        return scores[len(scores) - 1]

    result = transfer(source(), weights(2), spec(), FGMT(gradient()), score=score, scales=[0.5, 2])
    places = [(candidate.step, candidate.scale) for candidate in result.candidates]
    assert places == [(step, 1) for step in range(6)] + [(5, 0.5), (5, 2)]
    assert len(scores) == 8, "nothing else is scored"
    assert result.choice.score == max(scores.values()) == accuracy(result.params)


def test_a_continued_base_chooses_the_identity():
    trajectory = source()
    other = {name: tensor + 0.01 for name, tensor in weights(1).items()}
    wrong = GivenPermutation(Permutation.random(spec(), torch.Generator().manual_seed(3)))
    found, beside = (
        transfer(trajectory, other, spec(), method, score=accuracy)
        for method in (wrong, Identity())
    )
    assert present(beside.choice.score) > present(found.choice.score)
    assert beside.choice.step > 0
    assert beside.permutation.moved() == 0


def test_a_transfer_that_only_harms_leaves_the_target_untouched():
    result = transfer(
        source(), weights(2), spec(), Identity(), score=lambda p: -abs(float(p["0.bias"].sum()
        - weights(2)["0.bias"].sum()))
    )  # fmt: skip
    assert result.choice.step == 0
    assert result.permutation.moved() == 0
    assert same(result.params, weights(2))


def test_finish_is_applied_before_scoring_and_returning():
    def finish(params):
        return {**params, "4.bias": torch.full((3,), 7.0)}

    result = transfer(
        source(),
        weights(2),
        spec(),
        Identity(),
        finish=finish,
        score=lambda p: float(p["4.bias"][0]),
    )
    assert result.choice.score == 7
    assert result.params["4.bias"].tolist() == [7, 7, 7]


def test_inputs_are_left_as_they_were():
    target, trajectory = weights(2), source()
    before, start = {n: t.clone() for n, t in target.items()}, trajectory[0]
    transfer(trajectory, target, spec(), FGMT(gradient()), score=accuracy)
    assert same(target, before)
    assert same(trajectory[0], start)


def test_the_same_inputs_give_the_same_bits():
    first, second = (
        transfer(source(), weights(2), spec(), FGMT(gradient(count=2))) for _ in range(2)
    )
    assert same(first.params, second.params)


@pytest.mark.parametrize("make", [FGMT, GMT, lambda _: Identity()], ids=["fgmt", "gmt", "identity"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(make, after, tmp_path):
    whole = transfer(source(), weights(2), spec(), make(gradient(count=2)), score=accuracy)

    class Interrupted(Exception):  # noqa: N818  # no error: somebody pressed Ctrl-C
        pass

    count = iter(range(100))

    def failing(params):
        if next(count) >= after:  # one score a step; the untouched target comes at the end
            raise Interrupted
        return accuracy(params)

    with pytest.raises(Interrupted):
        transfer(source(), weights(2), spec(), make(gradient(count=2)), score=failing,
                 folder=tmp_path)  # fmt: skip
    resumed = transfer(
        source(), weights(2), spec(), make(gradient(count=2)), score=accuracy, folder=tmp_path
    )
    assert same(resumed.params, whole.params)
    assert [r.objective for r in resumed.history] == [r.objective for r in whole.history]
    assert [r.score for r in resumed.history] == [r.score for r in whole.history]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from nets import *
from symport.methods import FGMT, transfer
count = 0
def score(params):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return accuracy(params)
transfer(source(), weights(2), spec(), FGMT(gradient(count=2)), score=score, folder={folder!r})
"""


@pytest.mark.parametrize("at", [2, 5])
def test_a_killed_process_can_be_resumed_with_the_same_bits(at, tmp_path):
    folder = tmp_path / "run"
    program = textwrap.dedent(KILLED).format(
        tests=str(Path(__file__).parents[1]), at=at, folder=str(folder)
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    resumed = transfer(
        source(), weights(2), spec(), FGMT(gradient(count=2)), score=accuracy, folder=folder
    )
    whole = transfer(source(), weights(2), spec(), FGMT(gradient(count=2)), score=accuracy)
    assert same(resumed.params, whole.params)


def test_a_finished_run_is_read_not_repeated(tmp_path):
    transfer(source(), weights(2), spec(), FGMT(gradient()), folder=tmp_path)
    slope = gradient()
    again = transfer(source(), weights(2), spec(), FGMT(slope), folder=tmp_path)
    assert slope.evaluations == 0
    assert same(load_tensors(tmp_path / "params.safetensors"), again.params)


def test_a_folder_with_another_run_is_refused(tmp_path):
    transfer(source(), weights(2), spec(), FGMT(gradient()), folder=tmp_path)
    with pytest.raises(FileError, match="holds another run: it differs in target"):
        transfer(source(), weights(3), spec(), FGMT(gradient()), folder=tmp_path)
    with pytest.raises(FileError, match="it differs in method, settings"):
        transfer(source(), weights(2), spec(), Identity(), folder=tmp_path)
    with pytest.raises(FileError, match="it differs in settings"):
        transfer(source(), weights(2), spec(), FGMT(gradient(seed=5)), folder=tmp_path)


def test_a_folder_of_another_given_permutation_or_oracle_is_refused(tmp_path):
    drawn = [Permutation.random(spec(), torch.Generator().manual_seed(k)) for k in (1, 2)]
    pairs = {
        "given": [GivenPermutation(permutation) for permutation in drawn],
        "oracle": [Oracle(weights(seed)) for seed in (3, 4)],
    }
    for name, (first, second) in pairs.items():
        transfer(source(), weights(2), spec(), first, folder=tmp_path / name)
        with pytest.raises(FileError, match="holds another run: it differs in settings"):
            transfer(source(), weights(2), spec(), second, folder=tmp_path / name)


def test_the_saved_result_can_be_read_back(tmp_path):
    result = transfer(source(), weights(2), spec(), FGMT(gradient()), score=accuracy)
    tmp_path.joinpath("out").mkdir()
    result.save(tmp_path / "out")
    assert same(load_tensors(tmp_path / "out" / "params.safetensors"), result.params)
    lines = (tmp_path / "out" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]
    summary = json.loads((tmp_path / "out" / "result.json").read_text())
    assert summary["choice"]["score"] == result.choice.score


def test_statistics_stay_with_the_target_and_counts_too():
    shapes = PermutationSpec.parse(
        {"w": "h", "mean": "h", "n": ""}, sizes={"h": 2}, buffers=["mean", "n"]
    )
    start = {"w": torch.zeros(2), "mean": torch.zeros(2), "n": torch.tensor(1)}
    end = {"w": torch.ones(2), "mean": torch.full((2,), 9.0), "n": torch.tensor(50)}
    target = {"w": torch.zeros(2), "mean": torch.full((2,), 3.0), "n": torch.tensor(4)}
    params = transfer(Trajectory.linear(start, end, 1), target, shapes, Identity()).params
    assert params["w"].tolist() == [1, 1]
    assert params["mean"].tolist() == [3, 3]
    assert int(params["n"]) == 4


def test_half_precision_stays_half_precision():
    half = {name: tensor.bfloat16() for name, tensor in weights(1).items()}
    end = {name: tensor.bfloat16() for name, tensor in trained(weights(1)).items()}
    result = transfer(Trajectory.linear(half, end, 2), half, spec(), Identity())
    assert {tensor.dtype for tensor in result.params.values()} == {torch.bfloat16}


def test_targets_that_do_not_fit_are_refused():
    short = {name: tensor for name, tensor in weights(2).items() if name != "4.bias"}
    with pytest.raises(ParamsError, match=r"lacks 4\.bias"):
        transfer(source(), short, spec(), Identity())
    wide = {**weights(2), "0.weight": torch.zeros(9, 4)}
    with pytest.raises(ParamsError, match=r"0\.weight"):
        transfer(source(), wide, spec(), Identity())
    with pytest.raises(SpecError, match="no pattern for extra"):
        transfer(source(), {**weights(2), "extra": torch.zeros(1)}, spec(), Identity())
    nan = {**weights(2), "4.bias": torch.tensor([0.0, torch.nan, 0.0])}
    with pytest.raises(ParamsError, match=r"4\.bias"):
        transfer(source(), nan, spec(), Identity())


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(SettingsError, match="pass score="):
        transfer(source(), weights(2), spec(), Identity(), scales=[2.0])
    with pytest.raises(SettingsError, match="positive and finite, not -1"):
        transfer(source(), weights(2), spec(), Identity(), scales=[-1], score=accuracy)


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make this folder"):
        transfer(source(), weights(2), spec(), Identity(), folder=tmp_path / "file" / "run")


def test_integer_weights_are_refused():
    integers = {name: (10 * tensor).int() for name, tensor in weights(2).items()}
    later = {name: tensor + 1 for name, tensor in integers.items()}
    with pytest.raises(ParamsError, match=r"weights of torch\.int32 cannot be transferred"):
        transfer(Trajectory.linear(integers, later, 1), integers, spec(), Identity())
    with pytest.raises(ParamsError, match="convert one of them first"):
        transfer(source(), integers, spec(), Identity())


def test_a_score_that_is_no_number_never_wins():
    def score(params):
        moved = not same(params, weights(2))
        return float("nan") if moved else 0.0

    assert transfer(source(), weights(2), spec(), Identity(), score=score).choice.step == 0


class Interrupted(Exception):  # noqa: N818  # no error: somebody pressed Ctrl-C
    pass


def stopped(folder, after: int):
    """FGMT, stopped in the step that follows so many."""
    count = iter(range(100))

    def failing(params):
        if next(count) >= after:
            raise Interrupted
        return accuracy(params)

    method = FGMT(gradient(count=2))
    with pytest.raises(Interrupted):
        transfer(source(), weights(2), spec(), method, score=failing, folder=folder)


def test_what_was_done_leaves_permutations_and_scores_but_no_gradients(tmp_path):
    stopped(tmp_path, after=3)
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    steps = {f"steps/permutation-{t:05d}.safetensors" for t in range(1, 4)}
    assert kept == {"run.json", "history.jsonl"} | steps
    slope = gradient(count=2)
    transfer(source(), weights(2), spec(), FGMT(slope), score=accuracy, folder=tmp_path)
    assert slope.evaluations == 10  # those of three steps again, and of two more


def test_the_journal_is_followed_where_a_machine_rounds_otherwise():
    problem, slope = Problem(source(), weights(2), spec()), gradient(count=2)
    drawn = [Permutation.random(spec(), torch.Generator().manual_seed(k)) for k in range(3)]
    done = [State(permutation, 7.0) for permutation in drawn]
    state = FGMT(slope).restore(problem, done)
    assert state.permutation.equal(drawn[-1])
    assert state.objective == 7.0
    fresh = Similarity(spec(), drawn[-1])
    for step, before in enumerate([Permutation.identity(spec()), *drawn[:2]]):
        fresh.add(Pair(slope(problem.place(before, step), step), slope(source()[step], step)))
    assert state.memory.objective == pytest.approx(fresh.objective, abs=1e-6)
    for tree in ("a", "b"):
        assert torch.allclose(
            state.memory.gains(tree)[(tree,)], fresh.gains(tree)[(tree,)], atol=1e-6
        )


def test_only_as_many_steps_are_taken_as_are_wanted(tmp_path):
    problem, slope = Problem(source(), weights(2), spec()), gradient()
    found = explore(problem, FGMT(slope), last_step=2, folder=tmp_path)
    assert slope.evaluations == 4
    whole = explore(problem, FGMT(slope))
    assert [p.equal(q) for p, q in zip(found.permutations, whole.permutations, strict=False)] == [
        True,
        True,
    ]
    further = explore(problem, FGMT(gradient()), folder=tmp_path)
    assert further.permutations[-1].equal(whole.permutations[-1])
    for step in (-1, 6):
        with pytest.raises(SettingsError, match=f"no step {step}: the trajectory has steps 0 to 5"):
            explore(problem, FGMT(slope), last_step=step)


def test_a_candidate_chosen_beforehand_is_returned():
    trajectory = source()
    taken = Candidate(3, 0.5, score=0.9)
    result = transfer(trajectory, weights(2), spec(), Identity(), choice=taken)
    assert result.choice is taken
    assert result.candidates == (taken,)
    assert same(result.params, add(weights(2), trajectory.displacement(3), 0.5))
    for step in (-1, 6):
        with pytest.raises(SettingsError, match=f"no step {step}: the trajectory has steps 0 to 5"):
            transfer(trajectory, weights(2), spec(), Identity(), choice=Candidate(step))


def test_a_finished_folder_keeps_only_what_is_worth_keeping(tmp_path):
    result = transfer(source(), weights(2), spec(), FGMT(gradient()), folder=tmp_path)
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    files = {"run.json", "history.jsonl", "result.json"}
    files |= {"params.safetensors", "permutation.safetensors"}
    assert kept == files | {f"steps/permutation-{t:05d}.safetensors" for t in range(1, 6)}
    again = transfer(source(), weights(2), spec(), FGMT(gradient()), folder=tmp_path)
    assert same(again.params, result.params)
    assert again.history == result.history
