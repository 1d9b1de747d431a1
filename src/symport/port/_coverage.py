"""Classes without examples, and held-out examples that are among the training examples too."""

from collections.abc import Sequence

from symport.data import Labelled
from symport.params import listed


def coverage(training: Labelled, held_out: Labelled, classes: Sequence[str]) -> list[str]:
    """Sentences about missing classes and duplicate examples.

    Args:
        training: Examples that match, choose and train.
        held_out: Examples that only report.
        classes: Names of the classes in their order; () if the labels are none.
    """
    return [*_doubles(training, held_out), *_absent(training, held_out, classes)]


def _doubles(training: Labelled, held_out: Labelled) -> list[str]:
    known = set(_bytes(training))
    count = sum(example in known for example in _bytes(held_out))
    if not count:
        return []
    sentence = (
        f"{count} of the {len(held_out)} held-out examples are among the training examples too, "
        "so that the reported numbers are too good; leave duplicates out."
    )
    return [sentence]


def _absent(training: Labelled, held_out: Labelled, classes: Sequence[str]) -> list[str]:
    seen, reported = (
        set(part.labels.tolist()) if classes else set() for part in (training, held_out)
    )
    numbers = range(len(classes))
    nowhere = [classes[k] for k in numbers if k not in seen | reported]
    unreported = [classes[k] for k in numbers if k in seen and k not in reported]
    sentences: list[str] = []
    if nowhere:
        sentences.append(
            f"{len(nowhere)} of the {len(classes)} classes have no example ({listed(nowhere)}): "
            "how a port does on them is unknown."
        )
    if unreported:
        sentences.append(
            f"{len(unreported)} of the {len(classes)} classes have no example among the "
            f"{len(held_out)} held out ({listed(unreported)}): what is reported leaves them out."
        )
    return sentences


def _bytes(examples: Labelled) -> list[bytes]:
    pairs = zip(examples.inputs, examples.labels, strict=True)
    return [x.numpy(force=True).tobytes() + y.numpy(force=True).tobytes() for x, y in pairs]
