"""Rules of fused attention."""

from collections.abc import Sequence
from typing import Any

import torch

from symport.symmetry._terms import Term, product, tie
from symport.symmetry.axes import Axes, Call, Result, fixed, register_rule, rule_for, unknown

aten = torch.ops.aten


@rule_for("scaled_dot_product_attention")
def attention(call: Call) -> Result:
    """softmax(q kᵀ + mask) v; with `enable_gqa` several query heads share keys and values."""
    if call["dropout_p"]:
        return unknown(call)
    q, k, v, mask = call["query"].axes, call["key"].axes, call["value"].axes, call["attn_mask"]
    if call["is_causal"]:
        call.fix([q[-2], k[-2]], "causal mask")
    return attended(call, (q, k, v), mask.axes if mask is not None else None, call["enable_gqa"])


def attended(call: Call, qkv: tuple[Axes, Axes, Axes], mask: Axes | None, shared: bool) -> Axes:
    """Relate queries, keys, values and the mask that is added to their scores, with broadcasting.

    Args:
        call: The operation.
        qkv: The axes of each, `(..., heads, positions, units)`.
        mask: Axes that are broadcast to `(..., heads, queries, keys)`.
        shared: Whether there may be several query heads for each head of keys and values.
    """
    q, k, v = qkv
    heads, given, taken = (_lettered(axes[:-2]) for axes in qkv)
    if shared and q[-3].size != k[-3].size:
        heads |= {"0": k[-3], "r": Term(q[-3].size // k[-3].size)}
        tie(q[-3], product([heads["0"], heads["r"]]))
    queries = {**heads, "t": q[-2], "d": q[-1]}
    keys = {**given, "s": k[-2], "d": k[-1]}
    scores = _wide(queries, keys, without="d")
    call.contract([queries, keys], scores)
    if mask is not None:
        *before, rows, columns = (Term(1), Term(1), *mask)[-max(len(mask), 2) :]
        added = {**_lettered(before), "t": rows, "s": columns}
        if "r" in heads and added.get("0", Term(1)).size != 1:
            tie(added["0"], q[-3])
            del added["0"]
        for letter, term in added.items():
            if 1 not in (term.size, scores.get(letter, Term(1)).size):
                tie(term, scores[letter])
        scores = _wide(scores, added)
    call.together(*(term for letter, term in scores.items() if letter != "s"))
    letters = [*map(str, reversed(range(len(call.shape) - 2))), "t", "v"]
    if "r" in heads:
        letters.insert(-2, "r")
    axes = call.contract([scores, {**taken, "s": v[-2], "v": v[-1]}], letters)
    return (*axes[:-4], q[-3], *axes[-2:]) if "r" in heads else axes


def flex_attention(call: Call) -> Result:
    """Attention with a function of its scores, which may depend on heads and positions."""
    q, k, v = (call[str(place)].axes for place in range(3))
    if _returns_scores(call["3"]) and _masks_nothing(call["4"][-1]):
        axes = attended(call, (q, k, v), None, shared=True)
    else:
        reason = "read by the score_mod or mask_mod of flex_attention"
        for value in call.tensors[3:]:
            call.fix(value.axes, reason)
        call.fix([*q[:-1], *k[:-1], *v[:-1]], reason)
        tie(q[-1], k[-1])
        call.together(*q)
        call.together(*v)
        axes = (*fixed(call.shape[:-1], reason), v[-1])
    return [axes, *(axes[:-1] for _ in call.shapes[1:])]


register_rule("flex_attention", flex_attention)  # a higher-order operation has no namespace


def _returns_scores(graph: Any) -> bool:
    """Whether a function returns its first argument."""
    return graph.graph.output_node().args[0] is next(iter(graph.graph.nodes))


def _masks_nothing(graph: Any) -> bool:
    """Whether a function returns true for every place."""
    made = graph.graph.output_node().args[0]
    return getattr(made, "target", None) in (aten.new_ones.default, aten.ones.default)


def _lettered(axes: Sequence[Term]) -> dict[str, Term]:
    """The axes before positions and units, numbered from the right."""
    return {str(n): term for n, term in enumerate(reversed(axes))}


def _wide(*tensors: dict[str, Term], without: str = "") -> dict[str, Term]:
    """All axes by letter; those of length 1 only where no tensor has a longer one."""
    found = {letter: term for axes in tensors for letter, term in axes.items() if term.size == 1}
    wide = {letter: term for axes in tensors for letter, term in axes.items() if term.size != 1}
    return {letter: term for letter, term in (found | wide).items() if letter != without}
