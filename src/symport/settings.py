"""Settings that a person gives: one schema for flags, YAML files and Python, and one loader.

Without torch, so that the command line answers for help at once.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from symport.errors import FileError, SettingsError, brief, short_repr

METHODS: tuple[str, ...] = ("fgmt", "gmt", "weights", "activations", "identity")
RENAMED_METHODS = {"naive": "identity"}
LOSS_NAMES: tuple[str, ...] = ("cross-entropy", "mse")
RENAMED = {  # flags and keys that users may still write, and what they are called now
    "data": "examples",
    "direct_lr": "learning_rates",
    "direct_lrs": "learning_rates",
    "hold_back": "held_out",
    "hold_out": "held_out",
    "hold_residual": "fix_residual",
    "lengths": "scales",
    "no_direct": "direct_steps=0",
    "pairs": "pairs_dtype",
    "recompute": "activation_checkpointing",
}
MAX_SEED = 2**32 - 1  # torch's generator on the CPU ignores all higher bits


def _at_home(path: Any) -> Any:
    """A folder named ~ is hardly ever meant."""
    if not str(path).startswith("~"):
        return path
    try:
        return type(path)(Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError("there is no such home folder; write the path in full") from error


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


def _known_method(name: str) -> str:
    return name if name == "auto" else method_name(name)


def _no_single_fold(folds: int) -> int:
    if folds == 1:
        raise ValueError("must be 0, or at least 2")
    return folds


Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Reference: TypeAlias = Annotated[str, AfterValidator(_at_home)]
File: TypeAlias = Annotated[Path, AfterValidator(_at_home)]

# Keys that several commands share: one meaning, one range, one help text.
EXAMPLES = (
    "Labelled examples that match, select and train: .safetensors or .npz with 'inputs' and "
    "'labels', or module:function; port and check also read .jsonl and folders of class folders."
)
Out: TypeAlias = Annotated[File, Field(description="Folder for the result.")]
Method: TypeAlias = Annotated[
    str,
    AfterValidator(_known_method),
    Field(
        description=f"How the permutation is found: {', '.join(METHODS)}, or module:Class; auto: "
        "fgmt with labelled examples, weights without."
    ),
]
STEPS = "Number of steps T along the source's trajectory."
BatchSize: TypeAlias = Annotated[Count, Field(description="Examples in a gradient for matching.")]
Scales: TypeAlias = Annotated[
    tuple[Positive, ...],
    Field(description="Factors α on the whole displacement, tried besides the steps."),
]
Folds: TypeAlias = Annotated[
    int,
    AfterValidator(_no_single_fold),
    Field(
        ge=0, description="Folds of the cross-validation; 0 selects nothing, takes the last step."
    ),
]
HeldOut: TypeAlias = Annotated[
    float, Field(gt=0, lt=1, description="Share of the examples held out: they only report.")
]
DirectSteps: TypeAlias = Annotated[
    int,
    Field(ge=0, description="Most steps of direct training on the examples; 0 leaves it out."),
]
LEARNING_RATES = "Learning rates (Adam) of direct training; of several the best is selected."
Seed: TypeAlias = Annotated[
    int, Field(ge=0, le=MAX_SEED, description="Seed of splits, folds and batches.")
]


class Rules(BaseModel):
    """How candidates are made, trained and selected.

    Example:
        >>> Rules(steps=4).folds
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    method: Method = "auto"
    steps: Count = Field(8, description=STEPS)
    batch_size: BatchSize = 64
    micro_batch: Count = Field(8, description="Examples that pass through the model at a time.")
    activation_checkpointing: bool = Field(
        False, description="Save memory by computing activations again in the backward pass."
    )
    pairs_dtype: Literal["as-is", "bfloat16"] = Field(
        "as-is", description="Dtype of the gradients kept from earlier steps; bfloat16 halves them."
    )
    normalize: bool = Field(True, description="Give all steps the same weight in the matching.")
    scales: Scales = (1.25, 1.5, 2.0)
    folds: Folds = 4
    held_out: HeldOut = 0.25
    direct_steps: DirectSteps = 64
    direct_batch_size: Count = Field(16, description="Examples in a step of direct training.")
    learning_rates: tuple[Positive, ...] = Field(
        (1e-4, 1e-3), min_length=1, description=LEARNING_RATES
    )
    seed: Seed = 0


class TransferSettings(Rules):
    """What `symport transfer` reads and writes, and how it selects; the keys of its YAML file.

    Its defaults differ from those of a port where its networks do: they are small, so that all
    examples pass at once, which BatchNorm needs; and the target may be a random initialization,
    from which direct training takes more and larger steps. The gradients of all steps are summed as
    the paper's algorithms do, not normalized.

    Example:
        >>> ends = {"start": "a0.safetensors", "end": "a.safetensors"}
        >>> files = {"target": "b0.safetensors", "examples": "few.npz", "out": "runs/b"}
        >>> TransferSettings(model="nets:mlp", **ends, **files).batch_size
        256
    """

    model: str = Field(
        description="A function that makes the network, as module:function, e.g. nets:mlp; or "
        "torchvision:NAME or timm:NAME where installed."
    )
    target: File = Field(description="The new initialization: a .safetensors file or .pt dict.")
    source: File | None = Field(
        None, description="A recorded source, as a folder of step files; or give its ends:"
    )
    start: File | None = Field(None, description="The source's initialization.")
    end: File | None = Field(None, description="The source's trained weights.")
    examples: Reference = Field(description=EXAMPLES)
    test: Reference | None = Field(
        None, description="Examples that only report; without them a share is held out."
    )
    out: Out
    spec: File | None = Field(
        None, description="A spec file, as discover --save writes it; else the spec is discovered."
    )
    loss: str = Field(
        LOSS_NAMES[0],
        description=f"The loss of each example: {', '.join(LOSS_NAMES)}, or module:function.",
    )
    steps: int | None = Field(None, description=STEPS)  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]  # a recorded source has its own
    batch_size: BatchSize = 256
    micro_batch: Count = Field(256, description="Examples that pass through the model at a time.")
    normalize: bool = Field(False, description="Give all steps the same weight in the matching.")
    direct_steps: DirectSteps = 512
    learning_rates: tuple[Positive, ...] = Field(
        (1e-3, 1e-2), min_length=1, description=LEARNING_RATES
    )


Schema = TypeVar("Schema", bound=BaseModel)


def checked(kind: type[Schema], given: Mapping[str, Any]) -> Schema:
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
        errors = sorted(error.errors(), key=lambda e: e["type"] == "missing")
        raise SettingsError("; ".join(_complaint(kind, dict(e)) for e in errors)) from error


def gathered(
    kind: type[BaseModel],
    config: Path | None = None,
    flags: Mapping[str, str | None] | None = None,
    assignments: Sequence[str] = (),
) -> dict[str, Any]:
    """Keys and values of a YAML file, overridden by those of the command line, unchecked.

    Args:
        kind: The schema; a value for one of its lists may be separated by commas.
        config: The YAML file.
        flags: Values by key; None where a flag was not given.
        assignments: What was given as `--set KEY=VALUE`.

    Raises:
        FileError: The file cannot be read, or is not YAML.
        SettingsError: The file holds something other than keys with values, an assignment has no
            `=`, or a key is given twice on the command line.

    Example:
        >>> gathered(Rules, flags={"steps": "4"}, assignments=["scales=1.5,2"])
        {'steps': '4', 'scales': ['1.5', '2']}
    """
    given = {} if config is None else read_settings(config)
    typed = {key: value for key, value in (flags or {}).items() if value is not None}
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise SettingsError(
                f"--set {short_repr(text)}: expected KEY=VALUE, such as --set folds=5"
            )
        if key in typed:
            raise SettingsError(f"{key} is given twice on the command line; leave one out")
        typed[key] = value
    return given | {key: _value(kind, key, text) for key, text in typed.items()}


def read_settings(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, unchecked.

    Raises:
        FileError: It cannot be read, or is not YAML.
        SettingsError: It holds something other than keys with values.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "settings.yaml"
        ...     _ = path.write_text("{steps: 4, scales: [1.5, 2]}")
        ...     read_settings(path)
        {'steps': 4, 'scales': [1.5, 2]}
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
    """The settings as YAML that `read_settings` reads back.

    Example:
        >>> print(show_settings(Rules(steps=4)).splitlines()[1])
        steps: 4
    """
    import yaml

    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def explain_settings(kind: type[BaseModel], given: Mapping[str, Any]) -> str:
    """All settings as YAML that `read_settings` reads back, each below a line with its meaning.

    Args:
        kind: The schema.
        given: What is set so far. A required key that is missing stands in a comment.

    Raises:
        SettingsError: A key is unknown, or a value is out of its range.

    Example:
        >>> lines = explain_settings(Rules, {"steps": 4}).splitlines()
        >>> lines[2:4]
        ["# Number of steps T along the source's trajectory.", 'steps: 4']
    """
    fields = kind.model_fields
    missing = [key for key, field in fields.items() if field.is_required() and key not in given]
    settings = checked(kind, {**dict.fromkeys(missing, "…"), **given}).model_dump(mode="json")
    keys = sorted(fields, key=lambda key: not fields[key].is_required())
    return "".join(_explained(kind, key, settings, key in missing) for key in keys)


def meaning(kind: type[BaseModel], key: str) -> str:
    """What a key means, and the values it may have where they are few.

    Example:
        >>> meaning(Rules, "seed")
        'Seed of splits, folds and batches.'
    """
    field = kind.model_fields[key]
    if get_origin(field.annotation) is not Literal:
        return f"{field.description}"
    return f"{field.description} One of {', '.join(map(str, get_args(field.annotation)))}."


def _explained(
    kind: type[BaseModel], key: str, settings: Mapping[str, Any], is_missing: bool
) -> str:
    import yaml

    comment = f"# {meaning(kind, key)}\n"
    if is_missing:
        return f"{comment}# {key}: (must be given)\n"
    flow = None if isinstance(settings[key], list) else False
    return comment + yaml.safe_dump(
        {key: settings[key]}, default_flow_style=flow, allow_unicode=True, width=10**6
    )


def _value(kind: type[BaseModel], key: str, text: str) -> Any:
    """A list is separated by commas, or written as in YAML."""
    field = kind.model_fields.get(key)
    if field is None or get_origin(field.annotation) is not tuple:
        return text
    if text.lstrip().startswith("["):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(
                f"{key}: {short_repr(text)} is not a list ({brief(error)})"
            ) from error
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts and text.strip():
        raise SettingsError(f"{key}: {short_repr(text)} is not a list such as 0.5,1,2")
    return parts


def _complaint(kind: type[BaseModel], error: dict[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return _unknown(kind, key)
    if error["type"] == "missing":
        return f"{key} is missing"
    own = error.get("ctx", {}).get("error")
    if isinstance(own, SettingsError):
        return str(own)
    return f"{key}: {str(error['msg']).lower()}, not {short_repr(error['input'])}"


def _unknown(kind: type[BaseModel], key: str) -> str:
    """What to say of a key that a schema lacks: its new name, or the nearest one there is."""
    if RENAMED.get(key, "").partition("=")[0] in kind.model_fields:
        return f"{key} is called {RENAMED[key]} now"
    near = get_close_matches(key, kind.model_fields, 1)
    advice = f"did you mean {near[0]}? " if near else ""
    return f"there is no setting {short_repr(key)}; {advice}--print-config lists all"
