"""Port without labels, from file to file: nothing is selected or measured."""

from pathlib import Path
from typing import Any

from symport.errors import SettingsError
from symport.huggingface import LEARNED, Family, Folders, ModelFiles, open_models
from symport.io import load_tensors, save_tensors
from symport.methods import Problem, takes
from symport.outofcore import match_checkpoints
from symport.port._alignment import align, find_spec
from symport.port._output import write_carried
from symport.port._refusals import refuse_unused_by_task
from symport.port._settings import PortSettings
from symport.port._with_examples import load_all, reading
from symport.progress import bar
from symport.spec import Fixed, Pattern, Permutation, PermutationSpec
from symport.tasks import feed_of, read_inputs, resolve_task
from symport.trajectory import Trajectory

FOUND = "permutation.safetensors"  # in the work folder
UNMEASURED = (
    "No examples were given, so nothing was measured: {how}; for independently trained bases it "
    "often gains nothing. A few dozen labelled examples (--examples) show that, and give more."
)
ALIGNED = "which is exact if the new base is the old one in another order"
HOW = {
    "weights": f"units were aligned by their weights, {ALIGNED}",
    "activations": f"units were aligned by their activations, {ALIGNED}",
    "identity": "no unit was moved, which is right if the new base continues the old one",
}


def port_without_labels(
    settings: PortSettings,
    models: tuple[Folders, Family],
    result: Path,
    work: Path,
    *,
    progress: bool = False,
) -> list[str]:
    """Match, transport and write; sentences about the result.

    Args:
        settings: Of the port.
        models: Where the models lie, and their architecture.
        result: An empty folder for the result.
        work: For what is kept after an interruption: the permutation, and complete files.
        progress: Whether to show progress bars.

    Raises:
        SettingsError: The method needs labels, or a setting has no effect for the task.
        FileError: A file is missing or damaged, or the result cannot be written.
        ParamsError: The models differ, or a tensor holds NaN.
        SpecError: The symmetry does not fit the models.
    """
    method = settings.method
    with open_models(*models) as files:
        found = _found(settings, files, models, work, progress=progress)
        write_carried(result, settings, files, models, found, work=work, progress=progress)
    permutation = found[1]
    moved = f"The displacement has scale 1; {permutation.moved():.0%} of the units were moved."
    how = HOW.get(method, f"units were aligned by {method}")
    return [UNMEASURED.format(how=how), moved]


def _found(
    settings: PortSettings,
    files: ModelFiles,
    models: tuple[Folders, Family],
    work: Path,
    *,
    progress: bool,
) -> tuple[PermutationSpec, Permutation]:
    """The symmetry, and the permutation from the old base's units to the new one's."""
    folders, family = models
    if settings.method == "identity":
        return _nothing_moves(files, family)
    if settings.method != "weights":
        return _in_memory(settings, folders, family)
    old, new = files.old.tensors, files.new.tensors
    with bar("symmetry", 1, show=progress) as advance:
        spec = find_spec(family.outline(), family, old, new, settings.fix_residual)
        advance("")
    path = work / FOUND
    if path.is_file():  # resume with the permutation of the files that are written already
        return spec, Permutation(load_tensors(path))
    with bar("matching", len(spec.trees()), show=progress) as advance:
        found = match_checkpoints(old, new, spec, advance=advance).permutation
    save_tensors(path, found.indices)
    return spec, found


def _nothing_moves(files: ModelFiles, family: Family) -> tuple[PermutationSpec, Permutation]:
    """The spec in which every axis is fixed, which fits any architecture."""
    sides = [files.old.tensors] if files.tuned is None else [files.tuned.tensors]
    outline = {**sides[0].outline(), **family.names.outline}
    patterns: dict[str, Pattern] = {name: (Fixed(),) * t.ndim for name, t in outline.items()}
    own = (name for name, _ in family.names.model.named_buffers() if not name.endswith(LEARNED))
    buffers = frozenset(own)
    return PermutationSpec(patterns, {}, buffers & patterns.keys()), Permutation({})


def _in_memory(
    settings: PortSettings, folders: Folders, family: Family
) -> tuple[PermutationSpec, Permutation]:
    inputs = _inputs(settings, folders, family) if takes(settings.method, "inputs") else []
    loaded = load_all(folders, family, settings)
    spec = find_spec(loaded.model, family, loaded.old, loaded.new, settings.fix_residual)
    source = Trajectory.linear(loaded.old, loaded.tuned, 1)
    problem = Problem(source, loaded.new, spec)
    permutation = align(settings.method, problem, loaded.model, inputs)
    if permutation is None:
        raise SettingsError(
            f"method: {settings.method} has a permutation for each step, and only --examples can "
            "tell which is best; without any, it must be a SinglePermutation"
        )
    return spec, permutation


def _inputs(settings: PortSettings, folders: Folders, family: Family) -> list[Any]:
    """The inputs without labels, in batches as the model takes them."""
    name = resolve_task(settings.task, family.name)
    refuse_unused_by_task(settings, name)
    inputs = read_inputs(name, reading(settings, settings.unlabelled, folders, family))
    feed = feed_of(name)
    return [feed(piece.to(settings.device)) for piece in inputs.split(settings.micro_batch)]
