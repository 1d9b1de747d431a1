"""Fused attention."""

from symport.symmetry.calls import Call, Result, rule_for, unknown
from symport.symmetry.terms import Term, product, tie


@rule_for("scaled_dot_product_attention")
def attention(call: Call) -> Result:
    """softmax(q kᵀ + mask) v; with `enable_gqa` several query heads share keys and values."""
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    queries, keys, values = list(q.axes), list(k.axes), list(v.axes)
    if call["dropout_p"]:
        return unknown(call)
    if call["is_causal"]:
        call.pin([queries[-2], keys[-2]], "causal mask")
    extra: list[Term] = []
    if call["enable_gqa"] and queries[-3].size != keys[-3].size:
        extra = [Term(queries[-3].size // keys[-3].size)]
        tie(queries[-3], product([keys[-3], *extra]))
    heads = queries[:-2]
    shared = {str(n): term for n, term in enumerate(reversed(heads))}
    inner = {**shared, "0": keys[-3]} if extra else shared
    scores = {**inner, **({"r": extra[0]} if extra else {})}
    given = {str(n): term for n, term in enumerate(reversed(keys[:-2]))}
    taken = {str(n): term for n, term in enumerate(reversed(values[:-2]))}
    call.contract(
        [{**scores, "t": queries[-2], "d": queries[-1]}, {**given, "s": keys[-2], "d": keys[-1]}],
        [*scores, "t", "s"],
    )
    weights = {**scores, "t": queries[-2], "s": keys[-2]}
    call.alone(*(term for name, term in weights.items() if name != "s"))
    if mask is not None:
        _mask(mask.axes, [*heads, queries[-2], keys[-2]])
    call.contract([weights, {**taken, "s": values[-2], "v": values[-1]}], [*scores, "t", "v"])
    return (*heads, queries[-2], values[-1])


def _mask(mask: tuple[Term, ...], scores: list[Term]) -> None:
    """Added to the scores, with broadcasting."""
    for term, score in zip(reversed(mask), reversed(scores), strict=False):
        if term.size != 1:
            tie(term, score)
