"""Rules of LSTM, GRU and plain recurrent layers: one permutation of hidden units in all gates."""

from collections.abc import Sequence

from symport.symmetry._terms import Term, product, tie
from symport.symmetry.axes import Axes, Call, Result, Value, fixed, rule_for, unknown

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule_for(*GATES, *(f"{name}_cell" for name in GATES))
def recurrent(call: Call) -> Result:
    """One layer in one direction (stacks have been split before), or one step of it."""
    if str(call.op).endswith("_cell.default"):
        return _cell(call)
    return _layer(call) if str(call.op).endswith(".input") else unknown(call)


def _gates(call: Call) -> Axes:
    return fixed((GATES[call.op.__name__.split(".")[0].removesuffix("_cell")],), "gate")


def _states(call: Call) -> list[Value]:
    """The hidden state, and that of the cells of an LSTM."""
    given = call["hx"]
    return given if isinstance(given, list) else [given]


def _cell(call: Call) -> Result:
    """New hidden (and cell) state from the old."""
    x, states = call["input"], _states(call)
    if any(len(value.axes) != 2 for value in (x, *states)):
        return unknown(call)
    batch, hidden = x.axes[0], states[0].axes[1]
    for state in states:
        tie(batch, state.axes[0])
        tie(hidden, state.axes[1])
    _weights(call, [call["w_ih"], call["b_ih"], call["b_hh"]], x.axes[1], hidden)
    _weights(call, [call["w_hh"]], hidden, hidden)
    _sums(call, batch, hidden)
    return [(batch, hidden) for _ in call.shapes]


def _sums(call: Call, batch: Term, units: Term) -> None:
    """Each step sums over the units of one sequence, so units and sequences nest nothing."""
    call.together(batch)
    call.together(units)


def _weights(call: Call, tensors: Sequence[Value | None], columns: Term, units: Term) -> None:
    """Tie gate blocks of rows to the units, and the columns to the input."""
    for tensor in tensors:
        if tensor is not None:
            tie(tensor.axes[0], product([*_gates(call), units]))
        if tensor is not None and len(tensor.axes) > 1:
            tie(tensor.axes[1], columns)


def _layer(call: Call) -> Result:
    """All steps of a sequence, with the first and last states, of shape (1, batch, units)."""
    x, states = call["input"], _states(call)
    if call["num_layers"] != 1 or call["bidirectional"] or len(x.axes) != 3:
        return unknown(call)
    place = 1 if call["batch_first"] else 0
    batch = x.axes[1 - place]
    call.fix([x.axes[place]], "time")
    cells, result = _units(call, x.axes[2])
    ends = [result, cells][: len(states)]
    for state, units in zip(states, ends, strict=True):
        tie(batch, state.axes[1])
        tie(units, state.axes[2])
        _sums(call, batch, units)
    return [(*x.axes[:2], result), *((Term(1), batch, units) for units in ends)]


def _units(call: Call, columns: Term) -> tuple[Term, Term]:
    """Tie the weights; the units of the cells and those of the result."""
    w_ih, w_hh, *others = params = call["params"]
    biases = others[:2] if call["has_biases"] else []
    cells = Term(w_hh.shape[0] // _gates(call)[0].size)
    result = cells
    if len(params) > 2 + len(biases):  # projected: the result is a linear map of the cells
        result = params[-1].axes[0]
        tie(params[-1].axes[1], cells)
    _weights(call, [w_ih, *biases], columns, cells)
    _weights(call, [w_hh], result, cells)
    return cells, result
