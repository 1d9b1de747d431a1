"""The settings of a port: one schema for the command line, YAML files and Python."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from symport.settings import Rules, checked

YesNo: TypeAlias = Literal["auto", "yes", "no"]
TaskName: TypeAlias = Literal["auto", "causal-lm", "classification", "image", "arrays"]


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
    fix_residual: YesNo = Field(
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

    @field_validator("fix_residual", "activations", mode="before")
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
    return checked(PortSettings, given)
