"""Write the folder of a result: weights in their layout, configuration and tokenizer."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from symport.errors import FileError, ParamsError, SpecError
from symport.huggingface import Family, Folders, ModelFiles, NamedCheckpoint, open_models
from symport.io import finished_files, open_checkpoint, write_checkpoint, write_text
from symport.lora import load_adapter, save_adapter, transport_adapter
from symport.outofcore import outline_of, transport
from symport.params import Params
from symport.port._settings import PortSettings
from symport.progress import bar
from symport.spec import Permutation, PermutationSpec
from symport.tasks import valid_pad

SHARDS = "weights"  # in the work folder
CARRIED = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model",
    "chat_template*",
)  # fmt: skip


def write_carried(
    folder: Path,
    settings: PortSettings,
    files: ModelFiles,
    models: tuple[Folders, Family],
    how: tuple[PermutationSpec, Permutation],
    *,
    work: Path | None = None,
    progress: bool = False,
) -> None:
    """Write the fine-tune under a permutation, from file to file: no computing dtype rounds it.

    Args:
        folder: Empty, for the result.
        settings: Of the port.
        files: The three models, opened.
        models: Where they lie, and their architecture.
        how: The symmetry, and the permutation from the old base's units to the new one's.
        work: A folder where complete files are kept after an interruption; None keeps none.
        progress: Whether to show a bar.
    """
    folders, family = models
    old, new = files.old.tensors, files.new.tensors
    if files.tuned is None:
        adapter = load_adapter(folders.tuned, family.ties)
        moved = transport_adapter(adapter, *how, old_base=old, new_base=new)
        save_adapter(folder, replace(moved, config=rebased(moved.config, settings)))
        return
    outline = outline_of(old, files.tuned.tensors, new)
    place = folder if work is None else work / SHARDS
    done = files.tuned.finished(place, outline) if work is not None else frozenset[str]()
    left = files.tuned.without(done).tensors
    shared = {"shared_statistics": settings.examples is None}
    made = transport(old, left, new, *how, **shared) if left else iter(())
    title, count = "writing", len(outline)
    with bar(title, count, show=progress, done=count - len(left)) as advance:
        write_as(place, files.tuned, outline, _counted(made, advance), keep=work is not None)
    if work is not None:
        for path in sorted(place.iterdir()):
            path.rename(folder / path.name)
        place.rmdir()


def _counted(
    tensors: Iterable[tuple[str, Tensor]], advance: Callable[[str], None]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        yield name, tensor
        advance(name)


def write_weights(folder: Path, folders: Folders, family: Family, params: Params) -> None:
    """Write whole weights in the layout of the fine-tune and the dtypes of the new base."""
    with open_models(folders, family) as files:
        if files.tuned is None:
            raise AssertionError("an adapter is not written as whole weights")
        outline = outline_of(files.old.tensors, files.tuned.tensors, files.new.tensors)
        made = ((name, params[name].to(t.dtype).cpu()) for name, t in outline.items())
        write_as(folder, files.tuned, outline, made)


def write_as(
    folder: Path,
    like: NamedCheckpoint,
    outline: Params,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    keep: bool = False,
) -> None:
    """Write tensors under the model's names in the names, files and layout of another folder."""
    laid_out = like.layout(outline)
    files = like.files(laid_out)
    done = finished_files(folder, laid_out, files) if keep else frozenset[str]()
    left = ((name, t) for name, t in like.repacked(tensors) if files[name] not in done)
    metadata = like.file.metadata or {"format": "pt"}
    try:
        write_checkpoint(folder, laid_out, files, left, metadata, keep=keep)
    except (ParamsError, SpecError):  # there is nothing to resume from
        if keep:
            shutil.rmtree(folder)
        raise


def rebased(config: Mapping[str, Any], settings: PortSettings) -> dict[str, Any]:
    """An adapter's configuration that names its new base, at no revision of the old one."""
    given = {"base_model_name_or_path": settings.new_base}
    return {**config, **given, **({"revision": None} if "revision" in config else {})}


def carry(folder: Path, *sources: Path) -> None:
    """Copy configuration and tokenizer of the first folder that has each file.

    Raises:
        FileError: A file cannot be copied.
    """
    for source in sources:
        for pattern in CARRIED:
            for path in sorted(source.glob(pattern)):
                if path.is_file() and not (folder / path.name).exists():
                    _copy(path, folder / path.name)


def note_dtype(folder: Path) -> None:
    """Set the dtype in a copied configuration to that of the weights."""
    path = folder / "config.json"
    if not path.is_file() or (folder / "adapter_config.json").is_file():
        return
    with open_checkpoint(folder) as written:
        floats = [t.dtype for t in written.outline().values() if t.is_floating_point()]
    content = json.loads(path.read_text(encoding="utf-8"))
    keys = [key for key in ("dtype", "torch_dtype") if key in content]
    name = str(floats[0]).removeprefix("torch.") if floats else None
    if len(set(floats)) == 1 and any(content[key] != name for key in keys):
        write_text(path, json.dumps({**content, **dict.fromkeys(keys, name)}, indent=2) + "\n")


def note_pad(folder: Path, config: Any) -> None:
    """Set the padding token in a copied configuration to that of a classifier's texts.

    Args:
        folder: With a config.json, unless it is an adapter's.
        config: Of the network, which has a token that the file may lack.
    """
    import transformers

    path = folder / "config.json"
    pad = valid_pad(config)
    if pad is None or not path.is_file():
        return
    if valid_pad(transformers.AutoConfig.from_pretrained(folder, local_files_only=True)) is None:
        content = json.loads(path.read_text(encoding="utf-8"))
        write_text(path, json.dumps({**content, "pad_token_id": pad}, indent=2) + "\n")


def _copy(path: Path, to: Path) -> None:
    try:
        shutil.copyfile(path, to)
    except OSError as error:
        raise FileError(f"{to}: cannot be written ({error})") from error
