"""Run a port from the folders of three models to the folder of the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symport.distributed import rank, world
from symport.errors import SettingsError
from symport.port.card import rows_of, write_card, write_numbers
from symport.port.compete import Outcome
from symport.port.labelled import port_by_examples, write_outcome
from symport.port.models import (
    Family,
    Folders,
    check_device,
    check_weights,
    find_family,
    find_folders,
)
from symport.port.page import write_page
from symport.port.settings import PortSettings
from symport.port.tokenizers import check_tokenizers, load_tokenizer
from symport.port.unlabelled import port_without_labels
from symport.port.verdict import verdict
from symport.port.write import Workplace, carry, note_dtype, refuse_existing


@dataclass(frozen=True, eq=False)
class Ported:
    """What a port made.

    Attributes:
        folder: Loads with `from_pretrained`, or with PEFT if the fine-tune is an adapter; has
            README.md, result.json and, with the extra `report`, report.html.
        verdict: What it is worth, sentence by sentence.
        outcome: The competition; None without examples.
    """

    folder: Path
    verdict: list[str]
    outcome: Outcome | None


def port(settings: PortSettings, *, progress: bool = False) -> Ported:
    """Put a fine-tune on a new base.

    Args:
        settings: As `settings.make_settings` checks them.
        progress: Whether to show progress bars.

    Joined processes (`symport.distributed`) share the gradients and return the same; the first one
    writes. They do not go on after an interruption, but begin anew.

    Raises:
        SettingsError: A model is quantized, of another architecture, or a package is missing.
        FileError: A file is missing, cut short or foreign; the output exists or cannot be written.
        ParamsError: Shapes, vocabularies or tokenizers differ, or a tensor holds NaN.
        DataError: An example is not what the task needs.
    """
    refuse_existing(settings.out)
    check_device(settings.device)
    folders = find_folders(settings.old_base, settings.tuned, settings.new_base)
    family = find_family(folders)
    check_weights(folders, family)
    check_tokenizers(load_tokenizer(folders.old_base), load_tokenizer(folders.new_base))
    if world() > 1:
        return _port_joined(settings, folders, family, progress=progress)
    place = Workplace(settings.out, _claim(settings, folders))
    place.result.mkdir()
    if settings.examples is None:
        sentences = port_without_labels(settings, folders, family, place.result)
        return _finish(place, settings, folders, sentences, None)
    outcome, loaded = port_by_examples(settings, folders, family, place.folder, progress=progress)
    write_outcome(place.result, settings, (folders, family), loaded, outcome.held)
    return _finish(place, settings, folders, verdict(outcome, settings.seed), outcome)


def _port_joined(
    settings: PortSettings, folders: Folders, family: Family, *, progress: bool
) -> Ported:
    """All processes share the gradients and find the same; the first one writes it."""
    if settings.examples is None:
        raise SettingsError(
            "without examples a port has no gradients that processes could share; start it alone, "
            "without torchrun"
        )
    is_first = rank() == 0
    place = Workplace(settings.out, _claim(settings, folders)) if is_first else None
    outcome, loaded = port_by_examples(
        settings, folders, family, None, progress=progress and is_first
    )
    sentences = verdict(outcome, settings.seed)
    if place is None:
        return Ported(settings.out, sentences, outcome)
    place.result.mkdir()
    write_outcome(place.result, settings, (folders, family), loaded, outcome.held)
    return _finish(place, settings, folders, sentences, outcome)


def _finish(
    place: Workplace,
    settings: PortSettings,
    folders: Folders,
    sentences: list[str],
    outcome: Outcome | None,
) -> Ported:
    """All that stands beside the weights; then the folder gets its name."""
    carry(place.result, folders.tuned, *([] if folders.is_adapter else [folders.new_base]))
    note_dtype(place.result)
    _describe(place.result, settings, sentences, outcome)
    place.finish()
    return Ported(settings.out, sentences, outcome)


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


def _claim(settings: PortSettings, folders: Folders) -> dict[str, Any]:
    """What a run that goes on must have in common with its beginning."""
    paths = [f for folder in vars(folders).values() for f in sorted(folder.glob("*.safetensors"))]
    if settings.examples is not None and Path(settings.examples).is_file():
        paths.append(Path(settings.examples))
    stats = {str(path.resolve()): path.stat() for path in paths}
    inputs = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    return {"settings": settings.model_dump(mode="json"), "inputs": inputs}
