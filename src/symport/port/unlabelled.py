"""Port without labels, from file to file: nothing can be chosen, and nothing can be promised."""

from pathlib import Path
from typing import Any

from symport.methods import Problem
from symport.port.alignment import align, find_spec
from symport.port.asked import refuse_idle_for_task
from symport.port.labelled import load_all, reading
from symport.port.models import Family, Folders, Trio, open_models
from symport.port.settings import PortSettings
from symport.port.tasks import feed_of, read_inputs, task_named
from symport.port.write import write_carried
from symport.spec import Permutation, PermutationSpec
from symport.streaming import match_checkpoints
from symport.trajectory import Trajectory

WORTH = (
    "No examples were given, so nothing was measured: {how}, and for independently trained bases "
    "is often worth nothing. A few dozen labelled examples (--examples) tell, and do better."
)
ALIGNED = "which is exact if the new base is the old one in another order"
HOW = {
    "weights": f"units were aligned by their weights, {ALIGNED}",
    "activations": f"units were aligned by their activations, {ALIGNED}",
    "identity": "units stay where they are, which is right if the new base continues the old one",
}


def port_without_labels(
    settings: PortSettings, folders: Folders, family: Family, result: Path
) -> list[str]:
    """Match, transport and write; what can be said of it.

    Raises:
        SymportError: As `port`.
    """
    method = settings.method
    with open_models(folders, family) as files:
        spec, permutation = _found(method, settings, files, folders, family)
        write_carried(result, settings, files, (folders, family), (spec, permutation))
    length = (
        f"The whole displacement was taken; {permutation.moved():.0%} of the units changed place."
    )
    return [WORTH.format(how=HOW[method]), length]


def _found(
    method: str, settings: PortSettings, files: Trio, folders: Folders, family: Family
) -> tuple[PermutationSpec, Permutation]:
    """The symmetry, and which unit of the old base stands where in the new one."""
    if method == "activations":
        return _by_activations(settings, folders, family)
    old, new = files.old.tensors, files.new.tensors
    spec = find_spec(family.outline(), family, old, new, settings.hold_residual)
    if method == "identity":
        return spec, Permutation.identity(spec)
    return spec, match_checkpoints(old, new, spec).permutation


def _by_activations(
    settings: PortSettings, folders: Folders, family: Family
) -> tuple[PermutationSpec, Permutation]:
    inputs = _inputs(settings, folders, family)
    loaded = load_all(folders, family, settings)
    spec = find_spec(loaded.model, family, loaded.old, loaded.new, settings.hold_residual)
    source = Trajectory.linear(loaded.old, loaded.tuned, 1)
    return spec, align("activations", Problem(source, loaded.new, spec), loaded.model, inputs)


def _inputs(settings: PortSettings, folders: Folders, family: Family) -> list[Any]:
    """The inputs without labels, in batches as the model takes them."""
    name = task_named(settings.task, family.name)
    refuse_idle_for_task(settings, name)
    inputs = read_inputs(name, reading(settings, settings.unlabelled, folders, family))
    feed = feed_of(name)
    return [feed(piece.to(settings.device)) for piece in inputs.split(settings.micro_batch)]
