"""The settings of a port: one schema for the command line, YAML files and Python."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from symport.settings import EXAMPLES, Out, Reference, Rules, checked

YesNo: TypeAlias = Literal["auto", "yes", "no"]
TaskName: TypeAlias = Literal["auto", "causal-lm", "classification", "image", "arrays"]


class PortSettings(Rules):
    """The settings of `symport port` and `symport check`: the keys of their YAML file.

    Example:
        >>> settings = PortSettings(old_base="a", tuned="b", new_base="c", out="d", folds=3)
        >>> settings.task, settings.folds
        ('auto', 3)
    """

    old_base: Reference = Field(description="The base that was fine-tuned: a folder or a hub id.")
    tuned: Reference = Field(description="The fine-tune: full weights or a PEFT adapter.")
    new_base: Reference = Field(description="The base that the fine-tune is put on.")
    out: Out
    examples: Reference | None = Field(None, description=EXAMPLES)
    unlabelled: Reference | None = Field(
        None, description="Examples without labels, for --method activations."
    )
    task: TaskName = Field("auto", description="The task; auto: what the fine-tune was made for.")
    loss: str | None = Field(
        None, description="The loss of each example, as module:function, in place of the task's."
    )
    labels: tuple[str, ...] = Field(
        (), description="Names of the classes in order, where the fine-tune has none."
    )
    max_length: int = Field(512, ge=2, description="Most tokens of a text; the rest is cut off.")
    fix_residual: YesNo = Field(
        "auto",
        description="Keep the residual stream's order; auto: if the bases have a common ancestor.",
    )
    activations: YesNo = Field(
        "auto", description="Match activations besides gradients; auto: if the head is new."
    )
    accept: tuple[str, ...] = Field(
        (), description="Keys of config.json in which the models may differ."
    )
    device: str = Field("cpu", description="Device that computes gradients, such as cuda.")
    dtype: Literal["float32", "bfloat16", "float64"] = Field(
        "float32", description="Dtype of the weights in memory while porting."
    )

    @field_validator("fix_residual", "activations", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads yes and no as true and false."""
        return ("yes" if value else "no") if isinstance(value, bool) else value


def make_settings(given: Mapping[str, Any]) -> PortSettings:
    """Check given settings.

    Raises:
        SettingsError: A key is unknown or missing, or a value is out of its range; all are named.

    Example:
        >>> make_settings({"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"}).steps
        8
    """
    return checked(PortSettings, given)
