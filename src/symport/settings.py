"""Settings that a person gives: the rules of a selection, and their reading from YAML.

Without torch, so that the command line answers for help at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from symport.errors import FileError, SettingsError, brief, short_repr

METHODS: tuple[str, ...] = ("fgmt", "gmt", "weights", "activations", "identity")
RENAMED_METHODS = {"naive": "identity"}
LOSS_NAMES: tuple[str, ...] = ("cross-entropy", "mse")
RENAMED = {  # flags, keys and methods that users may still write, and what they are called now
    "lengths": "scales",
    "hold_back": "held_out",
    "hold_out": "held_out",
    "hold_residual": "fix_residual",
    "recompute": "activation_checkpointing",
    "pairs": "pairs_dtype",
    "direct_lrs": "learning_rates",
    "direct_lr": "learning_rates",
}
MAX_SEED = 2**32 - 1  # torch's generator on the CPU ignores all higher bits

Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


def method_name(name: str) -> str:
    """The name of a method, if it may be one: of those known, or `module:Class`.

    Raises:
        SettingsError: It is none, or has another name now.

    Example:
        >>> method_name("identity")
        'identity'
    """
    if name in RENAMED_METHODS:
        raise SettingsError(f"the method {name} is called {RENAMED_METHODS[name]} now")
    if name not in METHODS and ":" not in name:
        raise SettingsError(f"method {name!r} is none of {', '.join(METHODS)}, nor module:Class")
    return name


class Rules(BaseModel):
    """How the competition is run."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    method: str = Field(
        "auto",
        description=f"How the permutation is found: {', '.join(METHODS)}, or module:Class; auto: "
        "fgmt with examples, weights without.",
    )
    steps: Count = Field(8, description="Steps T along the line from old base to fine-tune.")
    batch_size: Count = Field(64, description="Examples in a gradient that is matched.")
    micro_batch: Count = Field(8, description="Examples that pass through the model at a time.")
    activation_checkpointing: bool = Field(
        False, description="Compute activations twice, which keeps less: gradient checkpointing."
    )
    pairs_dtype: Literal["as-is", "bfloat16"] = Field(
        "as-is", description="How the gradients of earlier steps are kept; bfloat16: half of it."
    )
    normalize: bool = Field(True, description="Give each step of the matching the same say.")
    scales: tuple[Positive, ...] = Field(
        (1.25, 1.5, 2.0), description="Factors α beyond the steps' own, of the last permutation."
    )
    folds: int = Field(
        4, ge=0, description="Of the cross-validation; 0 takes the last step and trains nothing."
    )
    held_out: float = Field(0.25, gt=0, lt=1, description="Share of examples that only report.")
    direct_steps: int = Field(
        64, ge=0, description="At most so many steps of direct training; 0 leaves it out."
    )
    direct_batch_size: Count = Field(16, description="Examples in such a step.")
    learning_rates: tuple[Positive, ...] = Field(
        (1e-4, 1e-3), min_length=1, description="Learning rates (Adam) to choose among."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of splits, folds and batches.")

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        return method if method == "auto" else method_name(method)

    @field_validator("folds")
    @classmethod
    def _no_single_fold(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("must be 0, or at least 2")
        return folds


Model = TypeVar("Model", bound=BaseModel)


def checked(kind: type[Model], given: dict[str, Any]) -> Model:
    """Settings of some kind, from what a person gave.

    Raises:
        SettingsError: A key is unknown or missing, or a value is out of its range; all are named.

    Example:
        >>> checked(Rules, {"steps": 4}).steps
        4
    """
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_complaint(dict(e)) for e in error.errors())) from error


def read_settings(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, unchecked.

    Raises:
        FileError: It cannot be read, or is not YAML.
        SettingsError: It holds something other than keys with values.
    """
    import yaml

    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FileError(f"{path}: cannot be read as YAML ({brief(error)})") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: expected lines such as 'steps: 8', not {short_repr(found)}")
    return {str(key): value for key, value in cast("dict[Any, Any]", found).items()}


def show_settings(settings: BaseModel) -> str:
    """The settings as YAML that `read_settings` reads back."""
    import yaml

    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _complaint(error: dict[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        if key in RENAMED:
            return f"{key} is called {RENAMED[key]} now"
        return f"there is no setting {short_repr(key)}; --print-config lists all"
    if error["type"] == "missing":
        return f"{key} is missing"
    own = error.get("ctx", {}).get("error")
    if isinstance(own, SettingsError):
        return str(own)
    return f"{key}: {str(error['msg']).lower()}, not {short_repr(error['input'])}"
