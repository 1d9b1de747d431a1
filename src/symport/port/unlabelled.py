"""Port without labels, from file to file: nothing can be chosen, and nothing can be promised."""

from pathlib import Path
from typing import Any

from symport.adapters import Adapter, load_adapter, save_adapter, transport_adapter
from symport.checkpoint import Checkpoint, open_checkpoint
from symport.errors import SettingsError
from symport.methods import Problem
from symport.params import Params
from symport.port.alignment import align, find_spec
from symport.port.labelled import load_all, reading, rebased
from symport.port.models import Family, Folders, new_heads
from symport.port.settings import PortSettings
from symport.port.spaces import Whole
from symport.port.tasks import make_task, read_inputs, task_named
from symport.port.write import write_as, write_weights
from symport.spec import Permutation, PermutationSpec
from symport.streaming import match_checkpoints
from symport.trajectory import Trajectory
from symport.transport import outline_of, transport

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
    method = settings.method if settings.method in HOW else "weights"
    if method == "activations":
        moved = _in_memory(method, settings, folders, family, result)
    else:
        moved = _from_files(method, settings, folders, family, result)
    length = f"The whole displacement was taken; {moved:.0%} of the units changed place."
    return [WORTH.format(how=HOW[method]), length]


def _from_files(
    method: str, settings: PortSettings, folders: Folders, family: Family, result: Path
) -> float:
    """Tensor by tensor, if files and model call them alike; else in memory."""
    model = family.outline()
    with open_checkpoint(folders.old_base) as old, open_checkpoint(folders.new_base) as new:
        if not {*old, *new} <= model.state_dict().keys():
            return _in_memory(method, settings, folders, family, result)
        old, new = _without_new_heads(old, new, folders, family)
        spec = find_spec(model, family, old, new, settings.hold_residual)
        permutation = Permutation.identity(spec)
        if method == "weights":
            permutation = match_checkpoints(old, new, spec).permutation
        _transport(settings, folders, (old, new), (spec, permutation), result)
    return permutation.moved()


def _without_new_heads(
    old: Checkpoint, new: Checkpoint, folders: Folders, family: Family
) -> tuple[Checkpoint, Checkpoint]:
    """Both bases as far as the fine-tune started from them."""
    if folders.is_adapter:
        return old, new
    with open_checkpoint(folders.tuned) as tuned:
        heads = new_heads(old, tuned, new, family)
    return old.without(heads), new.without(heads)


def _transport(
    settings: PortSettings,
    folders: Folders,
    bases: tuple[Params, Params],
    how: tuple[PermutationSpec, Permutation],
    result: Path,
) -> None:
    old, new = bases
    if folders.is_adapter:
        adapter = load_adapter(folders.tuned)
        moved = transport_adapter(adapter, *how, old_base=old, new_base=new)
        save_adapter(result, Adapter(rebased(moved.config, settings), moved.tensors))
        return
    with open_checkpoint(folders.tuned) as tuned:
        write_as(result, tuned, outline_of(old, tuned, new), transport(old, tuned, new, *how))


def _in_memory(
    method: str, settings: PortSettings, folders: Folders, family: Family, result: Path
) -> float:
    loaded = load_all(folders, family, settings)
    spec = find_spec(loaded.model, family, loaded.old, loaded.new, settings.hold_residual)
    source = Trajectory.linear(loaded.old, loaded.tuned, 1)
    inputs = _inputs(settings, folders, family) if method == "activations" else []
    permutation = align(method, Problem(source, loaded.new, spec), loaded.model, inputs)
    if folders.is_adapter:
        _transport(settings, folders, (loaded.old, loaded.new), (spec, permutation), result)
        return permutation.moved()
    held = Whole(loaded.new, source.displacement(1), spec).place(permutation, 1.0)
    write_weights(result, folders, family, loaded.model, held)
    return permutation.moved()


def _inputs(settings: PortSettings, folders: Folders, family: Family) -> list[Any]:
    """The inputs without labels, in batches as the model takes them."""
    if settings.unlabelled is None:
        raise SettingsError("activations need inputs: --examples, or --unlabelled without labels")
    name = task_named(settings.task, family.name)
    inputs = read_inputs(name, reading(settings, settings.unlabelled, folders, family))
    feed = make_task(name, settings.loss).feed
    return [feed(piece.to(settings.device)) for piece in inputs.split(settings.micro_batch)]
