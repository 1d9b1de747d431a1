"""The settings of a port: one schema for the command line, YAML files and Python."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from symport.choices import MAX_SEED
from symport.errors import FileError, SettingsError, brief, shown

MethodName: TypeAlias = Literal["auto", "fgmt", "gmt", "weights", "activations", "identity"]
YesNo: TypeAlias = Literal["auto", "yes", "no"]
TaskName: TypeAlias = Literal["auto", "causal-lm", "classification", "image", "arrays"]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


class Rules(BaseModel):
    """How the competition is run."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    method: MethodName = Field(
        "auto",
        description="How the permutation is found; auto: fgmt with examples, weights without.",
    )
    steps: Count = Field(8, description="Steps T along the line from old base to fine-tune.")
    batch_size: Count = Field(64, description="Examples in a gradient that is matched.")
    micro_batch: Count = Field(8, description="Examples that pass through the model at a time.")
    recompute: bool = Field(
        False, description="Compute activations twice, which keeps less: gradient checkpointing."
    )
    pairs: Literal["as-is", "bfloat16"] = Field(
        "as-is", description="How the gradients of earlier steps are kept; bfloat16: half of it."
    )
    normalize: bool = Field(True, description="Give each step of the matching the same say.")
    lengths: tuple[Positive, ...] = Field(
        (1.25, 1.5, 2.0), description="Factors α beyond the steps' own, of the last permutation."
    )
    folds: int = Field(
        4, ge=0, description="Of the cross-validation; 0 takes the last step and trains nothing."
    )
    hold_back: float = Field(0.25, gt=0, lt=1, description="Share of examples that only report.")
    direct_steps: int = Field(
        64, ge=0, description="At most so many steps of direct training; 0 leaves it out."
    )
    direct_batch_size: Count = Field(16, description="Examples in such a step.")
    direct_lrs: tuple[Positive, ...] = Field(
        (1e-4, 1e-3), min_length=1, description="Learning rates (Adam) to choose among."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of splits, folds and batches.")

    @field_validator("folds")
    @classmethod
    def _no_single_fold(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("must be 0, or at least 2")
        return folds


class PortSettings(Rules):
    """Everything that `symport port` can be told; the keys of its YAML file."""

    old_base: str = Field(description="What was fine-tuned: a folder, or a hub id.")
    tuned: str = Field(description="The fine-tune: full weights or a PEFT adapter.")
    new_base: str = Field(description="Where the fine-tune is to go.")
    out: Path = Field(description="A folder for the result, which must not exist yet.")
    examples: str | None = Field(None, description="A .jsonl file, or a folder of class folders.")
    unlabelled: str | None = Field(None, description="The same without labels, for activations.")
    task: TaskName = Field("auto", description="By default what the fine-tune was made for.")
    loss: str | None = Field(None, description="module:function, one loss for each example.")
    labels: tuple[str, ...] = Field(
        (), description="The classes' names in their order, where the fine-tune has none."
    )
    max_length: int = Field(512, ge=2, description="Tokens of a text; what is longer is cut.")
    hold_residual: YesNo = Field(
        "auto", description="Keep the residual stream's order; auto: if the bases share ancestry."
    )
    activations: YesNo = Field(
        "auto", description="Count them in gradient matching; auto: if the fine-tune's head is new."
    )
    accept: tuple[str, ...] = Field(
        (), description="A key of config.json in which the models may differ; repeat it for more."
    )
    device: str = Field("cpu", description="Where gradients are computed, such as cuda.")
    dtype: Literal["float32", "bfloat16", "float64"] = Field(
        "float32", description="Of weights in memory while porting."
    )

    @field_validator("hold_residual", "activations", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads yes and no as true and false."""
        return ("yes" if value else "no") if isinstance(value, bool) else value

    @field_validator("old_base", "tuned", "new_base", "out", "examples", "unlabelled")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        """A folder named ~ is hardly ever meant."""
        if value is None or not str(value).startswith("~"):
            return value
        try:
            return type(value)(Path(value).expanduser())
        except RuntimeError as error:
            raise ValueError("there is no such home folder; write the path in full") from error


def make_settings(given: dict[str, Any]) -> PortSettings:
    """Check the settings that a person gave.

    Raises:
        SettingsError: A key is unknown or missing, or a value is out of its range; all are named.

    Example:
        >>> make_settings({"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"}).steps
        8
    """
    try:
        return PortSettings(**given)
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
        raise SettingsError(f"{path}: expected lines such as 'steps: 8', not {shown(found)}")
    return {str(key): value for key, value in cast("dict[Any, Any]", found).items()}


def show_settings(settings: PortSettings) -> str:
    """The settings as YAML that `read_settings` reads back."""
    import yaml

    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _complaint(error: dict[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"there is no setting {shown(key)}; --print-config lists all"
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {str(error['msg']).lower()}, not {shown(error['input'])}"
