"""`symport port` under torchrun: two processes of gloo find and write what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import texts, trio

from symport import distributed
from symport.errors import SettingsError
from symport.port import make_settings, port_fine_tune

SETTINGS = {"steps": 2, "folds": 2, "scales": [1.5], "direct_steps": 2, "learning_rates": [1e-3]}


def started(folder: Path, processes: int, **settings) -> subprocess.CompletedProcess[str]:
    config = folder / f"port-{processes}.yaml"
    config.write_text(json.dumps(settings))  # which is YAML too
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *launch, "-m", "symport", "port", "--config", str(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_port_as_one_does(tmp_path):
    files = trio(tmp_path, "LlamaForCausalLM")
    given = {**files, **SETTINGS, "examples": texts(tmp_path / "x.jsonl", 24)}
    alone = port_fine_tune(make_settings({**given, "out": str(tmp_path / "alone")}))
    ran = started(tmp_path, 2, **given)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Picked") == 1
    joined, single = (
        json.loads((Path(folder) / "result.json").read_text())
        for folder in (files["out"], alone.folder)
    )
    assert joined["picked"] == single["picked"]
    assert joined["units_moved"] == single["units_moved"]
    for name, numbers in single["candidates"].items():
        assert joined["candidates"][name]["loss"] == pytest.approx(numbers["loss"], rel=1e-4)
    found, expected = (
        load_file(Path(folder) / "model.safetensors") for folder in (files["out"], alone.folder)
    )
    assert all(torch.allclose(found[name], t, atol=1e-4) for name, t in expected.items())
    assert not Path(f"{files['out']}.work").exists()


def test_processes_without_gradients_to_share_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("symport.port._run.world_size", lambda: 2)
    files = trio(tmp_path, "LlamaForCausalLM")
    with pytest.raises(SettingsError, match="start it alone, without torchrun"):
        port_fine_tune(make_settings({**files, "method": "weights"}))
    assert not Path(f"{files['out']}.work").exists()
    distributed.leave()  # nobody is joined: nothing happens
