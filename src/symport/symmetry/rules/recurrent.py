"""LSTM, GRU and plain recurrent layers: one permutation of the hidden units in every gate."""

from collections.abc import Sequence
from typing import Any

from symport.symmetry.calls import Axes, Call, Result, Value, pinned, rule_for, unknown
from symport.symmetry.terms import Term, product, tie, total

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule_for(*GATES, *(f"{name}_cell" for name in GATES))
def recurrent(call: Call) -> Result:
    """A stack of recurrent layers, or one step of one."""
    if str(call.op).endswith("_cell.default"):
        return _cell(call)
    return _stack(call) if str(call.op).endswith(".input") else unknown(call)


def _gates(call: Call) -> Axes:
    return pinned((GATES[call.op.__name__.split(".")[0].removesuffix("_cell")],), "gate")


def _cell(call: Call) -> Result:
    """New hidden (and cell) state from the old."""
    x, state = call["input"], call["hx"]
    states: list[Value] = state if isinstance(state, list) else [state]
    hidden = states[0].axes[-1]
    for other in states[1:]:
        tie(hidden, other.axes[-1])
    _weights(call, [call["w_ih"], call["b_ih"], call["b_hh"]], x.axes[-1], hidden)
    _weights(call, [call["w_hh"]], hidden, hidden)
    call.alone(*x.axes[:-1], hidden)
    return [(*x.axes[:-1], hidden) for _ in call.shapes]


def _weights(call: Call, tensors: Sequence[Value | None], columns: Term, units: Term) -> None:
    """Tie gate blocks of rows to the units, and the columns to the input."""
    for tensor in tensors:
        if tensor is not None:
            tie(tensor.axes[0], product([*_gates(call), units]))
        if tensor is not None and len(tensor.axes) > 1:
            tie(tensor.axes[1], columns)


def _stack(call: Call) -> Result:
    """All layers and directions; the last axis of the result has both directions."""
    x, params = call["input"], list(call["params"])
    directions = 2 if call["bidirectional"] else 1
    count = len(params) // (call["num_layers"] * directions)
    below, hidden = x.axes[-1], list[Term]()
    for _ in range(call["num_layers"]):
        blocks = [params[k * count : (k + 1) * count] for k in range(directions)]
        params = params[directions * count :]
        units = [_layer(call, block, below) for block in blocks]
        hidden += [u[0] for u in units]
        below = total(u[-1] for u in units)
    call.pin([x.axes[1 if call["batch_first"] else 0]] if len(x.axes) > 2 else x.axes[:-1], "time")
    call.alone(*x.axes[:-1])
    return [(*x.axes[:-1], below), *_states(call, hidden)]


def _layer(call: Call, params: Sequence[Value], columns: Term) -> tuple[Term, Term]:
    """Tie the weights of one layer and direction; its cell units and its result."""
    biases = 2 if call["has_biases"] else 0
    w_ih, w_hh = params[:2]
    cells = Term(w_hh.shape[0] // _gates(call)[0].size)
    result = cells
    if len(params) > 2 + biases:  # projected: the result is a linear map of the cells
        result = params[-1].axes[0]
        tie(params[-1].axes[1], cells)
    _weights(call, [w_ih, *params[2 : 2 + biases]], columns, cells)
    _weights(call, [w_hh], result, cells)
    call.alone(cells)
    call.alone(result)
    return cells, result


def _states(call: Call, hidden: Sequence[Term]) -> list[Axes]:
    """First and last states hold all layers in one tensor, so reading them ties the layers."""
    reason = "states of several layers in one tensor"
    given: Any = call["hx"]
    for state in given if isinstance(given, list) else [given]:
        if not state.uniform:
            _tie_all(call, state.axes, hidden, reason)
    result: list[Axes] = []
    for place, shape in enumerate(call.shapes[1:], start=1):
        axes = pinned(shape or (), reason)
        if call.uses(place):
            axes = (*axes[:-1], Term(axes[-1].size))
            _tie_all(call, axes, hidden, reason)
        result.append(axes)
    return result


def _tie_all(call: Call, axes: Axes, hidden: Sequence[Term], reason: str) -> None:
    call.pin(axes[:-1], reason)
    for units in hidden:
        if units.size == axes[-1].size:
            tie(axes[-1], units)
        else:
            call.pin([units, axes[-1]], reason)
