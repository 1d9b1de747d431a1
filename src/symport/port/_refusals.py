"""Resolve the method that `auto` stands for, and refuse settings that would change nothing.

A setting counts as given if it differs from its default, so that a file of all settings, as
`--print-config` writes it, gives no more than what was changed in it.
"""

from collections.abc import Iterator
from typing import Any

from symport.errors import SettingsError
from symport.methods import takes
from symport.port._settings import PortSettings
from symport.settings import METHODS

FROM_FILES = ("weights", "identity")  # without examples no model is loaded for these
OF_TEXTS = ("causal-lm", "classification")
OF_CLASSES = ("classification", "image")
DEFAULT_METHOD = (
    "No method was given: the default is --method weights without examples, and fgmt with examples."
)


def resolve_method(settings: PortSettings) -> PortSettings:
    """The settings with the method that `auto` stands for."""
    if settings.method != "auto":
        return settings
    method = "weights" if settings.examples is None else "fgmt"
    return settings.model_copy(update={"method": method})


def refuse_unused(settings: PortSettings) -> None:
    """Raise SettingsError if a setting that was given would change nothing, or cannot work.

    Args:
        settings: As `resolve_method` returns them.
    """
    if settings.examples is None and takes(settings.method, "gradient"):
        raise SettingsError(
            f"method: {settings.method} matches gradients, which takes labelled --examples; "
            "without any, choose --method weights, identity, or activations with --unlabelled"
        )
    if settings.examples is None and not settings.unlabelled and takes(settings.method, "inputs"):
        raise SettingsError(
            f"method: {settings.method} needs inputs: --examples, or --unlabelled without labels"
        )
    _refuse(settings, dict(_unused(settings)))


def refuse_unused_by_task(settings: PortSettings, task: str) -> None:
    """Raise SettingsError if a setting that was given has no meaning for the task."""
    unused: dict[str, str] = {}
    if task not in OF_TEXTS:
        unused["max_length"] = f"for the task {task!r}"
    if task not in OF_CLASSES:
        unused["labels"] = f"for the task {task!r}"
    _refuse(settings, unused)


def _refuse(settings: PortSettings, unused: dict[str, str]) -> None:
    if given := [name for name in unused if _is_given(settings, name)]:
        verb, them = ("has", "it") if len(given) == 1 else ("have", "them")
        raise SettingsError(
            f"{', '.join(given)} {verb} no effect {unused[given[0]]}; leave {them} out"
        )


def _is_given(settings: PortSettings, name: str) -> bool:
    value: Any = getattr(settings, name)
    return value != PortSettings.model_fields[name].default


def _unused(settings: PortSettings) -> Iterator[tuple[str, str]]:
    """Settings that change nothing, each with the reason; the first one counts."""
    if settings.examples is None:
        yield from _unused_without_examples(settings)
        return
    yield "unlabelled", "beside --examples"
    is_trained = settings.folds > 0 and settings.direct_steps > 0
    if not takes(settings.method, "gradient"):
        yield from _unused_without_matching(settings, is_trained=is_trained)
    if not settings.folds:
        yield "scales", "with folds=0"
        if settings.direct_steps:
            yield "direct_steps", "with folds=0"
    if not is_trained:
        for name in ("direct_batch_size", "learning_rates"):
            yield name, "without direct training"


def _unused_without_matching(
    settings: PortSettings, *, is_trained: bool
) -> Iterator[tuple[str, str]]:
    how = f"with --method {settings.method}"
    for name in ("batch_size", "normalize", "pairs_dtype", "activations"):
        yield name, how
    if not settings.folds and settings.method in METHODS:  # one's own may differ by step
        yield "steps", f"{how} and folds=0"
    if not is_trained:
        yield "activation_checkpointing", f"{how} and without direct training"
    if settings.method == "identity":
        yield "fix_residual", how


def _unused_without_examples(settings: PortSettings) -> Iterator[tuple[str, str]]:
    """Without labels nothing is selected, trained or reported; models run only for activations."""
    for name in ("steps", "batch_size", "activation_checkpointing", "normalize", "pairs_dtype",
                 "scales", "folds", "held_out", "direct_steps", "direct_batch_size",
                 "learning_rates", "seed", "activations", "loss", "labels"):  # fmt: skip
        yield name, "without --examples"
    reason = f"with --method {settings.method} and without --examples"
    if not takes(settings.method, "inputs"):
        for name in ("unlabelled", "micro_batch", "task", "max_length"):
            yield name, reason
    if settings.method in FROM_FILES:
        for name in ("device", "dtype"):
            yield name, reason
    if settings.method == "identity":
        yield "fix_residual", "with --method identity"
