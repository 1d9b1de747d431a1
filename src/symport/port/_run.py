"""Run a port from the folders of three models to the folder of the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from symport.distributed import rank, world_size
from symport.errors import SettingsError
from symport.huggingface import (
    Family,
    Folders,
    check_device,
    check_tokenizers,
    check_weights,
    find_family,
    find_folders,
    load_tokenizer,
    unused_tensor_notes,
    write_config,
)
from symport.port._model_card import write_card, write_numbers
from symport.port._output import carry, note_dtype, note_pad
from symport.port._refusals import DEFAULT_METHOD, refuse_unused, resolve_method
from symport.port._report_page import write_page
from symport.port._settings import PortSettings
from symport.port._with_examples import port_by_examples, write_outcome
from symport.port._without_examples import port_without_labels
from symport.port._work_folder import Workplace, fingerprint
from symport.selection import Outcome, rows_of, verdict


@dataclass(frozen=True, eq=False)
class Ported:
    """What a port made.

    Attributes:
        folder: Loads with `from_pretrained`, or with PEFT if the fine-tune is an adapter; has
            README.md, result.json and, with the extra `report`, report.html.
        verdict: How good it is and what to do next, sentence by sentence.
        outcome: The candidates and the pick; None without examples.
    """

    folder: Path
    verdict: list[str]
    outcome: Outcome | None


def port_fine_tune(settings: PortSettings, *, progress: bool = False) -> Ported:
    """Put a fine-tune on a new base.

    Joined processes (`symport.distributed`) share the gradients and return the same; the first one
    writes. They do not resume after an interruption, but start again.

    Args:
        settings: Such as `make_settings` returns.
        progress: Whether to show progress bars.

    Raises:
        SettingsError: A model is quantized, of another architecture, or a package is missing.
        FileError: A file is missing or damaged; the output exists or cannot be written.
        ParamsError: Shapes, vocabularies or tokenizers differ, or a tensor holds NaN.
        DataError: An example is not what the task needs.

    Example:
        `models` maps `old_base`, `tuned` and `new_base` to folders of a tiny GPT-2:

        >>> from symport.port import make_settings
        >>> ported = port_fine_tune(
        ...     make_settings({**models, "method": "identity", "out": folder / "port"}))
        >>> sorted(path.name for path in ported.folder.glob("*.safetensors"))
        ['model.safetensors']
    """
    is_chosen = settings.method == "auto" and settings.examples is None
    check_device(settings.device)
    settings = resolve_method(settings)
    refuse_unused(settings)
    if rank() > 0:
        return _port(settings, None, progress=False)
    with Workplace(settings.out) as place:
        return _port(
            settings, place, progress=progress, notes=[DEFAULT_METHOD] if is_chosen else []
        )


def _port(
    settings: PortSettings,
    place: Workplace | None,
    *,
    progress: bool,
    notes: Sequence[str] = (),
) -> Ported:
    """The port; of joined processes only the first has a folder to write to."""
    folders = find_folders(settings.old_base, settings.tuned, settings.new_base)
    family = find_family(folders, settings.accept)
    family = check_weights(folders, family)
    family.remarks.extend(notes)
    check_tokenizers(load_tokenizer(folders.old_base), load_tokenizer(folders.new_base))
    if place is not None:
        place.claim(settings.model_dump(mode="json"), _inputs(settings, folders))
    if settings.examples is None:
        return _port_without_examples(settings, folders, family, place, progress=progress)
    work = None if place is None or world_size() > 1 else place.folder  # joined ones cannot go on
    outcome, loaded = port_by_examples(settings, folders, family, work, progress=progress)
    sentences = [*verdict(outcome, settings.seed), *unused_tensor_notes(folders, family)]
    sentences += [*family.notes, *family.remarks]
    if place is not None:
        result = place.begin_result()
        write_outcome(result, settings, (folders, family), loaded, outcome)
        _finish(place, settings, (folders, family), sentences, outcome)
    return Ported(settings.out, sentences, outcome)


def _port_without_examples(
    settings: PortSettings,
    folders: Folders,
    family: Family,
    place: Workplace | None,
    *,
    progress: bool,
) -> Ported:
    if place is None or world_size() > 1:
        raise SettingsError(
            "without examples a port has no gradients that processes could share; start it alone, "
            "without torchrun"
        )
    result, models = place.begin_result(), (folders, family)
    sentences = port_without_labels(settings, models, result, place.folder, progress=progress)
    sentences += [*unused_tensor_notes(folders, family), *family.notes, *family.remarks]
    _finish(place, settings, (folders, family), sentences, None)
    return Ported(settings.out, sentences, None)


def _finish(
    place: Workplace,
    settings: PortSettings,
    models: tuple[Folders, Family],
    sentences: list[str],
    outcome: Outcome | None,
) -> None:
    """Write all files besides the weights; then give the folder its name."""
    folders, family = models
    carry(place.result, folders.tuned, *([] if folders.is_adapter else [folders.new_base]))
    note_dtype(place.result)
    write_config(place.result, family, folders.new_base)
    note_pad(place.result, family.config)
    _describe(place.result, settings, sentences, outcome)
    place.finish()


def _describe(
    folder: Path, settings: PortSettings, sentences: list[str], outcome: Outcome | None
) -> None:
    rows = [] if outcome is None else rows_of(outcome, settings.seed)
    write_card(folder, settings, sentences, rows)
    write_numbers(folder, settings, sentences, outcome)
    try:
        write_page(folder / "report.html", settings, sentences, outcome)
    except SettingsError:  # the extra is not installed; the same numbers are in the card
        return


def _inputs(settings: PortSettings, folders: Folders) -> dict[str, str]:
    """Fingerprints of the files that must not have changed when a run is resumed."""
    kinds = ("*.safetensors", "*.json")
    paths = [p for f in vars(folders).values() for kind in kinds for p in sorted(f.glob(kind))]
    given = [Path(p) for p in (settings.examples, settings.unlabelled) if p is not None]
    paths += [path for path in given if path.exists()]
    return {str(path.resolve()): fingerprint(path) for path in paths if path.exists()}
