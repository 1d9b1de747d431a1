import json
import subprocess
import sys

import pytest
import torch
from nets import same

from symport.errors import FileError
from symport.methods import StepRecord
from symport.methods._journal import WRITTEN, Journal
from symport.spec import Permutation

RUN = {"method": "fgmt", "settings": {"start": "previous", "batches": "abc"}, "steps": 3}


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.1 * step, 0.5, None, 2, 0.25, 0.75)


def test_what_is_committed_is_read_back(tmp_path):
    journal = Journal(tmp_path / "deep" / "run", RUN)
    assert journal.records == []
    permutations = {step: Permutation({"h": torch.randperm(4)}) for step in (1, 2)}
    for step, permutation in permutations.items():
        journal.save_permutation(step, permutation)
        journal.commit(record(step))
    again = Journal(tmp_path / "deep" / "run", RUN)
    assert again.records == [record(1), record(2)]
    for step, permutation in permutations.items():
        assert again.permutation(step).equal(permutation)


def test_a_step_without_its_line_does_not_count(tmp_path):
    journal = Journal(tmp_path, RUN)
    journal.save_permutation(1, Permutation({"h": torch.tensor([1, 0])}))
    assert Journal(tmp_path, RUN).records == []


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_line_that_was_cut_off_does_not_count(tmp_path, cut):
    journal = Journal(tmp_path, RUN)
    journal.commit(record(1))
    whole = (tmp_path / "history.jsonl").read_text()
    journal.commit(record(2))
    text = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(text[:-cut])
    assert Journal(tmp_path, RUN).records == [record(1)]
    assert (tmp_path / "history.jsonl").read_text() == whole


def test_numbers_survive_to_the_last_bit(tmp_path):
    odd = StepRecord(1, 1 / 3, 2 / 7, -1e-300, 4, 5e-324, 1e300)
    Journal(tmp_path, RUN).commit(odd)
    assert Journal(tmp_path, RUN).records == [odd]


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ({**RUN, "steps": 4}, "it differs in steps;"),
        ({**RUN, "settings": {"start": "previous", "batches": "x"}}, r"in settings \(batches\);"),
        ({**RUN, "method": "gmt", "settings": {}}, r"method, settings \(start, batches\);"),
        ({"method": "fgmt"}, "in settings, steps;"),
        ({**RUN, "more": 1}, "in more;"),
    ],
)
def test_the_folder_of_another_run_is_refused_and_left_alone(tmp_path, other, shown):
    Journal(tmp_path, RUN).commit(record(1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileError, match=f"another run: .*{shown} choose another folder"):
        Journal(tmp_path, other)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("version", [None, 1, 3])
def test_the_folder_of_another_version_is_refused_and_left_alone(tmp_path, version):
    """The first version said nothing of its format, and its lines scored the identity too."""
    run = RUN if version is None else {"format": version, **RUN}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "history.jsonl").write_text('{"step": 1, "identity_score": 0.5}\n')
    with pytest.raises(FileError, match=rf"another version .*format {version or 1}, not 2\)"):
        Journal(tmp_path, RUN)
    assert json.loads((tmp_path / "run.json").read_text()) == run


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", "\x00\xff"])
def test_a_foreign_run_file_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FileError, match=r"run\.json: does not describe a run of symport"):
        Journal(tmp_path, RUN)


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"step": 1}', "[]", "7"])
def test_a_foreign_history_is_refused(tmp_path, line):
    Journal(tmp_path, RUN)
    (tmp_path / "history.jsonl").write_text(f"{line}\n")
    with pytest.raises(FileError, match=r"history\.jsonl: a line is not the record of a step"):
        Journal(tmp_path, RUN)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    Journal(tmp_path, RUN)
    (tmp_path / "history.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(FileError, match=r"history\.jsonl: cannot be read"):
        Journal(tmp_path, RUN)


def test_a_history_with_a_gap_is_refused(tmp_path):
    journal = Journal(tmp_path, RUN)
    journal.commit(record(1))
    journal.commit(record(3))
    with pytest.raises(FileError, match="the steps are not 1, 2, 3"):
        Journal(tmp_path, RUN)


def test_a_missing_permutation_is_named(tmp_path):
    Journal(tmp_path, RUN).commit(record(1))
    with pytest.raises(FileError, match=r"permutation-00001\.safetensors: cannot be read"):
        Journal(tmp_path, RUN).permutation(1)


def test_tidying_keeps_the_permutations(tmp_path):
    journal = Journal(tmp_path, RUN)
    permutation = Permutation({"h": torch.tensor([1, 0])})
    journal.save_permutation(1, permutation)
    (tmp_path / "steps" / "pair-00001.safetensors").write_text("")
    (tmp_path / "steps" / ".pair-00002.safetensors.abcd.tmp").write_text("")
    journal.tidy()
    assert [path.name for path in (tmp_path / "steps").iterdir()] == [
        "permutation-00001.safetensors"
    ]
    assert same(journal.permutation(1).indices, permutation.indices)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(FileError, match=r"cannot make this folder .*choose another"):
            Journal(folder, RUN)


def test_the_lines_are_json_that_other_programs_read(tmp_path):
    Journal(tmp_path, RUN).commit(record(1))
    program = "import json, sys; print(json.loads(sys.stdin.readline())['evaluations'])"
    with (tmp_path / "history.jsonl").open() as lines:
        answer = subprocess.run(
            [sys.executable, "-c", program], stdin=lines, capture_output=True, check=True
        )
    assert json.loads(answer.stdout) == 2


@pytest.mark.parametrize("name", WRITTEN)
def test_files_that_no_run_has_written_are_not_replaced(tmp_path, name):
    path = tmp_path / name / "notes.txt" if name == "steps" else tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    with pytest.raises(FileError, match=f"{name}: would be replaced"):
        Journal(tmp_path, RUN)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "precious"
