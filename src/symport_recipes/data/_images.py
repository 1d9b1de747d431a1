"""Images that are decoded on demand, or all at once into memory.

For sets too large for memory: ImageNet at 224 pixels takes 193 GB. Threads decode in parallel,
as Pillow releases the interpreter lock.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from symport.errors import DataError, FileError
from symport.io import load_tensors, make_folder, save_tensors
from symport.progress import bar
from symport_recipes.data._augment import draw_crops
from symport_recipes.data._dataset import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Dataset,
    Examples,
    check_labels,
)
from symport_recipes.data._decode import decode
from symport_recipes.data._encoded import Encoded

SIZE = 224  # pixels; what ResNets are trained at (He et al. 2016)
AHEAD = 2  # batches decoded while one is used
CHUNK = 64  # images between two steps of the progress bar
VERSION = "1"  # of the decoding; a change makes cached pixels stale


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Encoded images with their labels, decoded on demand.

    Attributes:
        encoded: Their locations; see `decode` for the formats.
        labels: Class of each, shape `(n,)`, int64, at least 0.
        size: Height and width after decoding, in pixels.
        mean: As `Examples.mean`.
        std: As `Examples.std`.
        threads: Number of images that are decoded in parallel; by default all cores, at most 16.

    Raises:
        DataError: There is no image, not one label for each, or `size` is below 1.
    """

    encoded: Encoded
    labels: Tensor
    size: int = SIZE
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    threads: int = field(default_factory=lambda: min(16, os.cpu_count() or 1))

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if len(self.encoded) != len(self.labels):
            raise DataError(f"{len(self.encoded)} images have {len(self.labels)} labels")
        if self.size < 1:
            raise DataError(f"a size of {self.size} pixels is asked for; it must be at least 1")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Memory that all images take once decoded, in bytes."""
        return len(self) * 3 * self.size**2

    def take(self, index: Tensor) -> Examples:
        """Decode the images at these places, in this order; `index` has shape `(k,)`, int64.

        Raises:
            DataError: Pillow is not installed.
            FileError: An image is missing or damaged.
        """
        (inputs,) = self.stream([index])
        return Examples(inputs, self.labels[index], self.mean, self.std)

    def part(self, index: Tensor) -> "LazyImages":
        """The images at these places, not decoded: for splits."""
        places = index.to(self.labels.device)
        return replace(self, encoded=self.encoded.part(index.cpu()), labels=self.labels[places])

    def to(self, device: torch.device) -> "LazyImages":
        """The same images, which will come on a device."""
        return replace(self, labels=self.labels.to(device))

    def stream(
        self,
        parts: Sequence[Tensor],
        generator: Generator | None = None,
        mine: Sequence[slice] | None = None,
    ) -> Iterator[Tensor]:
        """Decode batch after batch, two of them ahead of what is used.

        Args:
            parts: Places of the images of each batch.
            generator: Cuts a random box from each image and mirrors half of them, see
                `draw_crops`. None for their centres.
            mine: What to decode of each batch; everything by default.

        Yields:
            Images of shape `(batch, 3, size, size)`, uint8, on the device of the labels.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[list[Future[Tensor]]] = deque()
            for index, part in zip(parts, mine or [slice(None)] * len(parts), strict=True):
                waiting.append(self._submit(pool, index.tolist(), generator, part))
                if len(waiting) > AHEAD:
                    yield self._collect(waiting.popleft())
            while waiting:
                yield self._collect(waiting.popleft())

    def load(self, cache: Path | None = None, *, show: bool = False) -> Examples:
        """Decode all images into memory.

        Args:
            cache: Folder where the pixels are stored for later runs, by a hash of the names and
                sizes of the files; created if needed. None to decode every time.
            show: Show a progress bar.

        Raises:
            DataError: They do not fit in this machine's memory.
            FileError: An image is missing or damaged, or the cache cannot be written.
        """
        self._check_memory()
        if cache is None:
            return self._examples(self._decode_all(show))
        make_folder(cache)
        key = f"{VERSION} {self.size} {self.encoded.digest()}"
        path = cache / f"images-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
        if not path.exists():
            save_tensors(path, {"inputs": self._decode_all(show)})
        return self._examples(load_tensors(path)["inputs"])

    def _examples(self, inputs: Tensor) -> Examples:
        return Examples(inputs, self.labels, self.mean, self.std)

    def _decode_all(self, show: bool) -> Tensor:
        inputs = torch.empty((len(self), 3, self.size, self.size), dtype=torch.uint8)
        parts = torch.arange(len(self)).split(CHUNK)
        with bar(f"decoding {len(self)} images", len(parts), show=show) as step:
            for index, images in zip(parts, self.stream(parts), strict=True):
                inputs[index] = images.cpu()
                step("")
        return inputs

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        numbers: list[int],
        generator: Generator | None,
        part: slice,
    ) -> list[Future[Tensor]]:
        # Drawn here, in order and for all, so that neither threads nor processes change anything.
        crops = [None] * len(numbers) if generator is None else draw_crops(len(numbers), generator)
        return [
            pool.submit(self._decode, number, crop)
            for number, crop in zip(numbers[part], crops[part], strict=True)
        ]

    def _collect(self, decoded: list[Future[Tensor]]) -> Tensor:
        images = torch.stack([image.result() for image in decoded])
        return images.to(self.labels.device)

    def _decode(self, number: int, crop: Tensor | None) -> Tensor:
        try:
            return decode(self.encoded.read(number), self.size, crop)
        except DataError:  # a ValueError too
            raise
        except ValueError as error:
            raise FileError(
                f"{self.encoded.name(number)}: is no whole JPEG or PNG image ({error}); "
                "copy it again"
            ) from error

    def _check_memory(self) -> None:
        total = _memory_bytes()
        if total is not None and self.nbytes > total:
            raise DataError(
                f"{len(self)} images of {self.size} by {self.size} pixels take "
                f"{self.nbytes / 1e9:.1f} GB, this machine has {total / 1e9:.1f} GB; choose a "
                "smaller size, or draw `batches` from the LazyImages"
            )


@dataclass(frozen=True, eq=False)
class LazyDataset:
    """A training set and a test set of encoded images.

    Attributes:
        name: What it is called in reports.
        train: To train on.
        test: To test on.
        classes: Name of each class.
        note: As `Dataset.note`.
    """

    name: str
    train: LazyImages
    test: LazyImages
    classes: tuple[str, ...]
    note: str = ""

    def load(self, cache: Path | None = None, *, show: bool = False) -> Dataset:
        """Decode both halves into memory; arguments and errors as `LazyImages.load`."""
        train, test = self.train.load(cache, show=show), self.test.load(cache, show=show)
        return Dataset(
            self.name,
            train.inputs,
            train.labels,
            test.inputs,
            test.labels,
            len(self.classes),
            train.mean,
            train.std,
            self.note,
        )


def _memory_bytes() -> int | None:
    """Of the whole machine; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
