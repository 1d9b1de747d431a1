"""Write the groups that were found as a spec: name them, and give each tensor its pattern."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from symport.spec import Axis, Fixed, Group, Pattern, PermutationSpec, Product, Sum, Unit
from symport.symmetry._groups import Tensors, Tree
from symport.symmetry._terms import SINGLE, Term, atoms, factors, parts, resolve
from symport.symmetry.axes import Axes, Tie, describe_ties


def describe(
    tensors: Tensors, tree: Tree, buffers: frozenset[str], ties: Sequence[Tie] = ()
) -> PermutationSpec:
    """The spec of the groups that were found.

    Args:
        tensors: The axes of every tensor of the state dict.
        tree: The groups and their nesting.
        buffers: Tensors that are statistics.
        ties: The ties that operations made.
    """
    names = _names(tensors, tree)
    groups = {
        name: Group(tree.size(key), "permutation" if atom.reason is None else "fixed")
        for key, atom in tree.atoms.items()
        if (name := names.get(key)) is not None and key not in tree.merged
    }
    patterns = {
        tensor: _pattern(axes, {key: names[key] for key in _shown(axes, tree)}, tree)
        for tensor, axes in tensors.items()
    }
    reasons = {tensor: found for tensor, axes in tensors.items() if (found := _reasons(axes))}
    return PermutationSpec(patterns, groups, buffers, reasons, _ties(ties, names, groups))


def _ties(
    ties: Sequence[Tie], names: Mapping[int, str], groups: Mapping[str, Group]
) -> dict[str, str]:
    """The operations that tie each group, in words."""
    found: dict[str, list[tuple[str, str]]] = {}
    for tie in ties:
        for name in {names[id(a)]: None for a in atoms(tie.term) if id(a) in names}:
            found.setdefault(name, []).append((tie.operation, tie.layer))
    return {name: describe_ties(found[name]) for name in groups if name in found}


def _shown(axes: Axes, tree: Tree) -> set[int]:
    """The groups to name in one tensor: fixed ones only if others are nested in them there."""
    here = {id(atom) for term in axes for atom in atoms(term)} & tree.atoms.keys()
    free = {key for key in here if tree.atoms[key].reason is None}
    return free.union(*(tree.path(key) for key in free))


def _pattern(axes: Axes, names: Mapping[int, str], tree: Tree) -> Pattern:
    return tuple(_axis(term, names, tree, top=True) for term in axes)


def _axis(term: Term, names: Mapping[int, str], tree: Tree, *, top: bool = False) -> Axis:
    term = resolve(term)
    if all(id(atom) not in names for atom in atoms(term)):
        return Fixed(None if top else term.size)
    if term.form == "atom":
        return Unit(names[id(term)])
    if term.form == "product":
        kept = [child for child in factors(term) if id(child) not in tree.merged]
        children = [_axis(child, names, tree) for child in kept]
        return _joined(children, is_product=True)
    return _joined([_axis(child, names, tree) for child in parts(term)], is_product=False)


def _joined(children: Sequence[Axis], *, is_product: bool) -> Axis:
    """A product or sum in which adjacent fixed factors or parts are merged."""
    merged: list[Axis] = []
    for child in children:
        last = merged[-1] if merged else None
        if isinstance(child, Fixed) and isinstance(last, Fixed) and child.size and last.size:
            size = last.size * child.size if is_product else last.size + child.size
            merged[-1] = Fixed(size)
        else:
            merged.append(child)
    if len(merged) == 1:
        return merged[0]
    return Product(tuple(merged)) if is_product else Sum(tuple(merged))


def _reasons(axes: Sequence[Term]) -> dict[int, str]:
    """Why axes of a tensor are fixed, in whole or in part, by axis."""
    found: dict[int, str] = {}
    for dim, term in enumerate(axes):
        reasons = dict.fromkeys(atom.reason for atom in atoms(term) if atom.reason is not None)
        if term.size == 1:
            found[dim] = "length 1"
        elif reasons:
            found[dim] = "; ".join(reasons)
        elif term.size and not any(atoms(term)):
            found[dim] = SINGLE
    return found


def _names(tensors: Tensors, tree: Tree) -> dict[int, str]:
    """A name for each group: that of the tensor whose rows it is, or of the first that has it."""
    homes = _homes(tensors, tree)
    names: dict[int, str] = {}
    taken: set[str] = set()
    for key in sorted(tree.atoms, key=lambda key: len(tree.path(key))):
        if key in tree.merged:
            continue
        name = _root_name(homes[key])
        if key in tree.parents:
            parent = tree.leader(tree.parents[key])
            word = "inner" if homes[parent] == homes[key] else _last_word(homes[key])
            name = f"{names[parent]}/{word}"
        names[key] = next(n for n in _variants(name) if n not in taken)
        taken.add(names[key])
    return {key: names[tree.leader(key)] for key in tree.atoms}


def _homes(tensors: Tensors, tree: Tree) -> dict[int, str]:
    """For each group the tensor to name it after: its rows, shared with the fewest others."""
    best: dict[int, tuple[int, int, str]] = {}
    for tensor, axes in tensors.items():
        for dim, term in enumerate(axes):
            found = {id(atom) for atom in atoms(term)} & tree.atoms.keys()
            for key in found:
                rank = (min(dim, 1), len(found - tree.merged.keys()), tensor)
                if key not in best or rank[:2] < best[key][:2]:
                    best[key] = rank
    return {key: tensor for key, (_, _, tensor) in best.items()}


def _root_name(tensor: str) -> str:
    name = tensor.removesuffix(".weight")
    return name if name[0].isalpha() or name[0] == "_" else f"h{name}"


def _last_word(tensor: str) -> str:
    return tensor.removesuffix(".weight").rsplit(".", 1)[-1]


def _variants(name: str) -> Iterator[str]:
    """The name, then the name with a number."""
    yield name
    for k in itertools.count(2):
        yield f"{name}-{k}"
