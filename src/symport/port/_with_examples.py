"""Port with examples, in memory: a selection among all candidates, whose pick is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from symport.data import Labelled
from symport.errors import DataError
from symport.huggingface import Family, Folders, ModelFiles, load, load_tokenizer, open_models, wide
from symport.lora import Adapter, displacement, load_adapter, save_adapter, with_tensors
from symport.matching import LinearTerm, Pair, Similarity
from symport.methods import Problem, takes
from symport.model import activations, layers_of, rows_of, with_activations
from symport.params import Params, add, inner, is_rounded
from symport.port._alignment import align, find_spec
from symport.port._coverage import coverage
from symport.port._output import rebased, write_weights
from symport.port._refusals import refuse_unused_by_task
from symport.port._settings import PortSettings
from symport.progress import print_line
from symport.selection import (
    AdapterFactors,
    MasterWeights,
    Outcome,
    Parameterization,
    SelectionProblem,
    Task,
    WholeWeights,
    select,
)
from symport.spec import Permutation, PermutationSpec
from symport.tasks import ExampleSource, make_task, read_examples, resolve_task
from symport.trajectory import Trajectory

UNITS_AT_ONCE = 4096  # of one pass: 64 MiB of float32 activations at 4096 rows, for each base
FEWEST = 4  # one held out, and folds of the rest that leave something to match


@dataclass(frozen=True, eq=False)
class Loaded:
    """Three networks in memory.

    Attributes:
        model: The new base, which also gives the computation.
        old: The old base.
        tuned: The fine-tune on it, dense.
        new: The new base.
        new_head: Tensors that the fine-tune has and a base lacks, which are zero in both bases.
        adapter: The fine-tune, if it is an adapter.
        source_model: Computes the old base and its fine-tune, where their configuration differs.
    """

    model: Any
    old: Params
    tuned: Params
    new: Params
    new_head: frozenset[str] = frozenset()
    adapter: Adapter | None = None
    source_model: Any = None


def port_by_examples(
    settings: PortSettings, folders: Folders, family: Family, work: Path | None, *, progress: bool
) -> tuple[Outcome, Loaded]:
    """Select with the examples, keeping intermediate results in `work`, if it is given.

    Raises:
        SettingsError: A setting has no effect for the task, or a package is missing.
        FileError: A file is missing or damaged, or the folder cannot be written.
        ParamsError: The models differ, or a tensor holds NaN.
        DataError: There are too few examples, or one is not what the task needs.
    """
    task = resolve_task(settings.task, family.name)
    refuse_unused_by_task(settings, task)
    read = read_examples(task, reading(settings, settings.examples, folders, family))
    if (count := len(read.examples)) < FEWEST:
        raise DataError(
            f"{settings.examples}: {count} examples, and at least {FEWEST} are needed; "
            "leave --examples out to port without any"
        )
    examples = in_dtype(read.examples, settings.dtype)
    training, held_out = examples.split(settings.held_out, settings.seed)
    family.remarks.extend(coverage(training, held_out, read.classes))
    for note in family.remarks:
        print_line(note, show=progress)
    loaded = load_all(folders, family, settings)
    spec = find_spec(loaded.model, family, loaded.old, loaded.new, settings.fix_residual)
    how = make_task(task, settings.loss)
    also: list[LinearTerm] = []
    if settings.activations == "yes" or (settings.activations == "auto" and loaded.new_head):
        spec = with_activations(spec, loaded.model)
        also = _answers(loaded, spec, _batches(how, training, settings))
    with open_models(folders, family) as files:
        problem = problem_of(settings, (loaded, files), spec, how, (training, held_out), also)
        _refuse_odd_losses(problem, examples, read.names)
        given = _given(settings, problem)
        return select(problem, settings, folder=work, given=given, progress=progress), loaded


def problem_of(
    settings: PortSettings,
    models: tuple[Loaded, ModelFiles],
    spec: PermutationSpec,
    task: Task,
    parts: tuple[Labelled, Labelled],
    also: Sequence[LinearTerm] = (),
) -> SelectionProblem:
    """The problem of a selection, given models in memory and as open files, and examples."""
    loaded, files = models
    return SelectionProblem(
        loaded.model,
        task,
        Trajectory.linear(loaded.old, loaded.tuned, settings.steps, copy=False),
        loaded.new,
        spec,
        _parameterization(loaded, spec, settings, files),
        *parts,
        settings.micro_batch,
        also,
        settings.activation_checkpointing,
        loaded.source_model,
    )


def reading(
    settings: PortSettings, reference: str | None, folders: Folders, family: Family
) -> ExampleSource:
    """What reading examples needs: the fine-tune's tokenizer, or that of the new base."""
    tokenizer = load_tokenizer(folders.tuned) or load_tokenizer(folders.new_base)
    folder = folders.new_base if folders.is_adapter else folders.tuned
    return ExampleSource(
        str(reference),
        family.config,
        tokenizer,
        folder,
        settings.max_length,
        settings.labels,
        family.remarks,
    )


def load_all(folders: Folders, family: Family, settings: PortSettings) -> Loaded:
    """All three models in memory, in one dtype and on one device.

    A head that one base lacks is zero in both: that of the other belongs to another task.

    Args:
        folders: Of the three models.
        family: Their architecture.
        settings: Of the port: `dtype` and `device`.

    Raises:
        FileError: A file is missing or damaged.
        ParamsError: A tensor is missing or has another shape, or the adapter is not supported.

    Example:
        `models` maps `old_base`, `tuned` and `new_base` to folders of a tiny GPT-2:

        >>> from symport.huggingface import find_family, find_folders
        >>> from symport.port import make_settings
        >>> folders = find_folders(**models)
        >>> settings = make_settings({**models, "out": folder / "port"})
        >>> loaded = load_all(folders, find_family(folders), settings)
        >>> loaded.old.keys() == loaded.tuned.keys() == loaded.new.keys()
        True
    """
    how = {"dtype": settings.dtype, "device": settings.device}
    source = family.of_source()
    old, new = load(folders.old_base, source, **how), load(folders.new_base, family, **how)
    heads = old.absent | new.absent
    for base in (old, new):
        for name in heads & base.params.keys():
            base.params[name].zero_()
    model = new.model.requires_grad_(True)
    own_model = None if family.source is None else old.model.requires_grad_(True)
    if not folders.is_adapter:
        tuned = load(folders.tuned, source, **how)
        own = heads - tuned.absent
        return Loaded(model, old.params, tuned.params, new.params, own, source_model=own_model)
    adapter = load_adapter(folders.tuned, family.ties)
    change = displacement(adapter, old.params)
    for side in filter(None, (model, own_model)):
        for name, parameter in side.named_parameters():
            parameter.requires_grad_(name in change)
    own = heads & change.keys()
    return Loaded(model, old.params, add(old.params, change), new.params, own, adapter, own_model)


def write_outcome(
    folder: Path,
    settings: PortSettings,
    models: tuple[Folders, Family],
    loaded: Loaded,
    outcome: Outcome,
) -> None:
    """Write the picked tensors, as whole weights or as an adapter, in the dtypes of the files."""
    if loaded.adapter is None:
        write_weights(folder, *models, outcome.tensors)
        return
    before = loaded.adapter.tensors
    tensors = {
        name: tensor.to(before[name].dtype).cpu() for name, tensor in outcome.tensors.items()
    }
    whole = with_tensors(loaded.adapter, tensors)
    save_adapter(folder, replace(whole, config=rebased(whole.config, settings)))


def _parameterization(
    loaded: Loaded, spec: PermutationSpec, settings: PortSettings, files: ModelFiles
) -> Parameterization:
    """What is kept of a result: read from the files where the computation rounds them."""
    adapter, seed = loaded.adapter, settings.seed
    if is_rounded(files.new.tensors.outline(), getattr(torch, settings.dtype)):
        old, new = wide(files.old, loaded.old), wide(files.new, loaded.new)
        if adapter is not None:
            return AdapterFactors(loaded.new, adapter, spec, old, seed, new)
        if files.tuned is not None:
            return MasterWeights(loaded.new, old, wide(files.tuned, loaded.tuned), new, spec)
    if adapter is not None:
        return AdapterFactors(loaded.new, adapter, spec, loaded.old, seed)
    way = Trajectory.linear(loaded.old, loaded.tuned, 1, copy=False)
    return WholeWeights(loaded.new, way.lazy_displacement(1), spec)


def _given(settings: PortSettings, problem: SelectionProblem) -> Permutation | None:
    """The permutation of a method that needs no labels and has one for all steps."""
    if takes(settings.method, "gradient"):
        return None
    networks = Problem(problem.source, problem.target_init, problem.spec)
    batches = _batches(problem.task, problem.training, settings)
    return align(settings.method, networks, problem.model, batches)


def _refuse_odd_losses(problem: SelectionProblem, examples: Labelled, names: Sequence[str]) -> None:
    """Raise DataError if the loss of an example is not finite for one of the given models."""
    sides = {
        "the new base": lambda: problem.evaluate(problem.target_init, examples),
        "the old base": lambda: problem.evaluate_source(0, examples),
        "the fine-tune": lambda: problem.evaluate_source(-1, examples),
    }
    problem.evaluate(problem.target_init, examples.take(torch.arange(1)))  # fails early
    for what, evaluate in sides.items():
        losses = evaluate().losses
        odd = (~losses.isfinite()).nonzero().flatten().tolist()
        if odd:
            raise DataError(
                f"{names[odd[0]]}: {what} has the loss {float(losses[odd[0]])} on it, as on "
                f"{len(odd)} of {len(losses)} examples, and only finite ones can be compared; "
                "leave it out, or --set dtype=float32"
            )


def _answers(loaded: Loaded, spec: PermutationSpec, batches: list[Any]) -> list[LinearTerm]:
    """The match of the two bases' activations, with the weight of one step, some layers at a time.

    With a head that starts at zero, all other gradients of the first step are zero.
    """
    similarity, squares = Similarity(spec), [0.0, 0.0]
    sides = ((loaded.model, loaded.new), (loaded.source_model or loaded.model, loaded.old))
    rows = rows_of(loaded.model, loaded.new, batches, spec)
    for layers in _in_turn(layers_of(spec, loaded.model)):
        new, old = (
            activations(model, params, batches, spec, layers=layers, rows=rows)
            for model, params in sides
        )
        squares = [sum_ + inner(side, side) for sum_, side in zip(squares, (new, old), strict=True)]
        similarity.add(Pair(new, old))
    if not all(squares):
        return []  # all activations of a base are zero
    return [similarity.linear_term().times((squares[0] * squares[1]) ** -0.5)]


def _in_turn(layers: Mapping[str, int]) -> list[list[str]]:
    """Layers in runs that have few enough units, or one layer each."""
    runs: list[list[str]] = []
    units = 0
    for name, count in layers.items():
        if not runs or units + count > UNITS_AT_ONCE:
            runs.append([])
            units = 0
        runs[-1].append(name)
        units += count
    return runs


def _batches(task: Task, examples: Labelled, settings: PortSettings) -> list[Any]:
    """Inputs as the model takes them."""
    pieces = examples.inputs.split(settings.micro_batch)
    return [task.feed(piece.to(settings.device)) for piece in pieces]


def in_dtype(examples: Labelled, dtype: str) -> Labelled:
    """Images are converted to the dtype of the weights; tokens are left as they are."""
    if not examples.inputs.is_floating_point():
        return examples
    return Labelled(examples.inputs.to(getattr(torch, dtype)), examples.labels)
