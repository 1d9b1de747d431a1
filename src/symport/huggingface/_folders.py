"""Find the folders of models, on this machine or on the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from symport.errors import FileError, SettingsError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Folders:
    """The folders of the three models.

    Attributes:
        old_base: The base that was fine-tuned.
        tuned: The fine-tune.
        new_base: The base to which it is carried over.

    Example:
        >>> Folders(gpt2, gpt2, gpt2).is_adapter
        False
    """

    old_base: Path
    tuned: Path
    new_base: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the fine-tune is an adapter, not a whole model."""
        return (self.tuned / "adapter_config.json").is_file()


def find_folder(reference: str) -> Path:
    """A local folder, or the download of a hub id.

    Raises:
        FileError: It is neither, or the hub cannot be reached.
        SettingsError: huggingface_hub is not installed.
    """
    path = Path(reference)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(reference):
        raise FileError(f"{reference}: not a model folder, nor a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SettingsError(
            f"{reference}: no such folder; to download it: pip install 'symport[hf]'"
        ) from error
    try:
        return Path(snapshot_download(reference, allow_patterns=WANTED))
    except Exception as error:  # its own errors, and those of the network under it
        raise FileError(
            f"{reference}: no such folder here, and the hub does not give it "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); download it elsewhere and "
            "pass its folder"
        ) from error


def find_folders(old_base: str, tuned: str, new_base: str) -> Folders:
    """The folders of three models, given as local folders or ids on the hub.

    Raises:
        FileError: One is neither, the hub cannot be reached, or a base is an adapter.
        SettingsError: huggingface_hub is not installed.

    Example:
        >>> find_folders(str(gpt2), str(gpt2), str(gpt2)).tuned == gpt2
        True
    """
    folders = Folders(find_folder(old_base), find_folder(tuned), find_folder(new_base))
    for path in (folders.old_base, folders.new_base):
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise FileError(f"{path}: is an adapter, not a base; merge it into its base first")
    return folders
