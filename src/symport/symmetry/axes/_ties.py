"""Note which operations make units move together that could otherwise move apart.

A layer ties its weights to what it reads, which nobody wonders about. What is noted is where two
computed values meet (a sum, a concatenation, a comparison of queries and keys), or two weights if
an operation reads nothing else.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from symport.symmetry._terms import Term, atoms
from symport.symmetry.axes._registry import Call, Value

SHOWN = 2  # layers that are named of each kind of operation


@dataclass(frozen=True)
class Tie:
    """Units that one operation joined.

    Attributes:
        term: What they are now.
        operation: Its name.
        layer: The module that it belongs to, by its path; empty if that is not known.
    """

    term: Term
    operation: str
    layer: str


def meeting(call: Call, computed: Collection[str]) -> list[Term]:
    """The units that an operation finds apart in the values that meet in it.

    Args:
        call: Before its rule is applied.
        computed: Values that depend on the example.
    """
    values = [value for value in call.tensors if value.name in computed] or call.tensors
    return _units(values)


def _units(values: Iterable[Value]) -> list[Term]:
    found = (atom for value in values for term in value.axes for atom in atoms(term))
    return list({id(atom): atom for atom in found if atom.reason is None}.values())


def joined(before: Sequence[Term], call: Call, layer: str) -> list[Tie]:
    """What has become of units that were apart: each pair that is now the same in part."""
    if len(before) < 2:
        return []
    now = [{id(atom): atom for atom in atoms(term)} for term in before]
    found = {key: a[key] for a, b in combinations(now, 2) for key in a.keys() & b.keys()}
    name = getattr(call.op, "__name__", str(call.op)).partition(".")[0]
    return [Tie(term, name, layer) for term in found.values()]


def told(ties: Iterable[tuple[str, str]]) -> str:
    """A line for the operations that tied one group, given as pairs (operation, layer).

    Example:
        >>> told([("add", "layers.0"), ("add", "layers.1"), ("add", "layers.2"), ("cat", "")])
        'add (in layers.0, layers.1 and 1 more), cat'
    """
    layers: dict[str, list[str]] = {}
    for operation, layer in ties:
        known = layers.setdefault(operation, [])
        if layer and layer not in known:
            known.append(layer)
    return ", ".join(f"{name}{_listed(places)}" for name, places in layers.items())


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return f" (in {', '.join(places[:SHOWN])}{more})" if places else ""
