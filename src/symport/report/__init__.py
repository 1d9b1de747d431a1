"""HTML pages and figures of results."""

from symport.report._html import (
    NOTHING,
    Curve,
    Section,
    draw,
    png,
    save_picture,
    write_report,
)
from symport.report._sections import outcome_sections, transfer_sections, write_outcome
from symport.report._spec_figure import draw_spec

__all__ = [
    "NOTHING",
    "Curve",
    "Section",
    "draw",
    "draw_spec",
    "outcome_sections",
    "png",
    "save_picture",
    "transfer_sections",
    "write_outcome",
    "write_report",
]
