"""What the examples cannot tell: classes that they lack, and held back what was seen before."""

from collections.abc import Sequence

from symport.data import Labelled
from symport.params import listed


def coverage(working: Labelled, reporting: Labelled, classes: Sequence[str]) -> list[str]:
    """Sentences about what is missing, or too often there.

    Args:
        working: Examples that match, choose and train.
        reporting: Examples that only report.
        classes: Names of the classes in their order; () if the labels are none.
    """
    return [*_doubles(working, reporting), *_absent(working, reporting, classes)]


def _doubles(working: Labelled, reporting: Labelled) -> list[str]:
    known = set(_bytes(working))
    count = sum(example in known for example in _bytes(reporting))
    if not count:
        return []
    sentence = (
        f"{count} of the {len(reporting)} examples held back also stand among those that choose "
        "and train, so that what is reported is too good; leave doubles out."
    )
    return [sentence]


def _absent(working: Labelled, reporting: Labelled, classes: Sequence[str]) -> list[str]:
    seen, judged = (
        set(part.labels.tolist()) if classes else set() for part in (working, reporting)
    )
    numbers = range(len(classes))
    nowhere = [classes[k] for k in numbers if k not in seen | judged]
    untold = [classes[k] for k in numbers if k in seen and k not in judged]
    sentences: list[str] = []
    if nowhere:
        sentences.append(
            f"{len(nowhere)} of the {len(classes)} classes have no example ({listed(nowhere)}): "
            "what a port is worth for them cannot be told."
        )
    if untold:
        sentences.append(
            f"{len(untold)} of the {len(classes)} classes have no example among the "
            f"{len(reporting)} held back ({listed(untold)}): what is reported leaves them out."
        )
    return sentences


def _bytes(examples: Labelled) -> list[bytes]:
    pairs = zip(examples.inputs, examples.labels, strict=True)
    return [x.numpy(force=True).tobytes() + y.numpy(force=True).tobytes() for x, y in pairs]
