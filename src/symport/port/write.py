"""Write the folder of a result: weights as they were laid out, and all that loading them needs."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from symport.checkpoint import INDEX, Checkpoint, open_checkpoint, write_checkpoint
from symport.errors import FileError
from symport.files import write_text
from symport.params import Params
from symport.port.models import Family, Folders, new_heads
from symport.port.tokenizers import quiet
from symport.state import own_tensors
from symport.transport import outline_of

CARRIED = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model",
    "chat_template*",
)  # fmt: skip


def write_weights(
    folder: Path, folders: Folders, family: Family, model: Any, params: Params
) -> None:
    """Write whole weights in the layout of the fine-tune and the dtypes of the new base.

    Where the names in its files are not those of the model, transformers writes them itself.
    """
    names = _names_in_files(model, params)
    with (
        open_checkpoint(folders.old_base) as old,
        open_checkpoint(folders.tuned) as tuned,
        open_checkpoint(folders.new_base) as new,
    ):
        outline = _layout(old, tuned, new, family)
        if outline.keys() <= names.keys() and set(map(names.get, outline)) == set(params):
            made = ((n, params[names[n]].to(t.dtype).cpu()) for n, t in outline.items())
            write_as(folder, tuned, outline, made)
            return
        dtype = next(t.dtype for t in new.outline().values() if t.is_floating_point())
    model.load_state_dict(dict(params), strict=False)
    with quiet():
        model.to(dtype).save_pretrained(folder, max_shard_size=_largest_file(folders.tuned))


def _layout(old: Checkpoint, tuned: Checkpoint, new: Checkpoint, family: Family) -> Params:
    """The tensors to write as the fine-tune's files name them; none if the new base's do not."""
    heads = new_heads(old, tuned, new, family)
    old, new = old.without(heads), new.without(heads)
    if any(name in old and name not in new for name in tuned):
        return {}
    return outline_of(old, tuned, new)


def write_as(
    folder: Path, like: Checkpoint, outline: Params, tensors: Iterable[tuple[str, Tensor]]
) -> None:
    """Write tensors under the file names of another checkpoint."""
    files = {name: like.files[name] for name in outline}
    write_checkpoint(folder, outline, files, tensors, like.metadata or {"format": "pt"})


def carry(folder: Path, *sources: Path) -> None:
    """Copy configuration and tokenizer of the first folder that has each file.

    Raises:
        FileError: A file cannot be copied.
    """
    for source in sources:
        for pattern in CARRIED:
            for path in sorted(source.glob(pattern)):
                if not (folder / path.name).exists():
                    _copy(path, folder / path.name)


def note_dtype(folder: Path) -> None:
    """Have a configuration that was carried along name the dtype that the weights have."""
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


def _copy(path: Path, to: Path) -> None:
    try:
        shutil.copyfile(path, to)
    except OSError as error:
        raise FileError(f"{to}: cannot be written ({error})") from error


def _names_in_files(model: Any, params: Params) -> dict[str, str]:
    """For each name of a tensor in the model, tied ones included, its name in `params`."""
    own = own_tensors(model)
    first = {id(tensor): name for name, tensor in own.items() if name in params}
    return {name: first[id(tensor)] for name, tensor in own.items() if id(tensor) in first}


def _largest_file(folder: Path) -> int:
    """In bytes, with room for what is counted differently; unlimited if there is only one."""
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    return max(sizes) if (folder / INDEX).is_file() else 2**62
