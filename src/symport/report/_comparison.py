"""The report of a comparison."""

from pathlib import Path

from symport.report._html import Curve, Section, draw, png, write_report
from symport.report._sections import transfer_sections
from symport.selection import Comparison, CrossValidation


def write_comparison(path: str | Path, found: Comparison) -> None:
    """Write the report of one comparison, with the curves of its transfer.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections = [_results_section(found)]
    if found.chosen_by is not None:
        sections.append(_choice_section(found.chosen_by))
    sections += transfer_sections(found.result)
    write_report(path, f"Transfer with {found.labels} labels", found.verdict, sections)


def _results_section(found: Comparison) -> Section:
    named = {
        "transfer": f"transfer by {found.settings.method}",
        "direct": f"direct training, {found.settings.direct_steps} steps on the same labels",
        "identity": "identity: the source's displacement added as it is",
        "untouched": "untouched: the target initialization",
    }
    rows = [
        (
            title,
            f"{100 * entry.accuracy:.1f} ± {100 * entry.accuracy_error:.1f}",
            f"{entry.nll:.3f}",
        )
        for name, title in named.items()
        if (entry := found.entries.get(name)) is not None
    ]
    text = (
        f"Matching, selection and training used {found.labels} labels. Accuracy, with its "
        f"standard error, was measured on {found.entries['transfer'].right.numel()} held-out "
        f"examples. The transfer ended in {_ending(found)}."
    )
    return Section("Results", text, ("", "accuracy (%)", "NLL (nats)"), rows)


def _ending(found: Comparison) -> str:
    choice = found.result.choice
    if choice.step == 0:
        return "the untouched target: no step scored better"
    by = "" if found.chosen_by is None else ", chosen by cross-validation"
    far = "" if choice.scale == 1 else f", the displacement times {choice.scale:g}"
    is_identity = found.chosen_by is not None and found.chosen_by.choice.kind == "identity"
    kind = " of the identity" if is_identity else ""
    return f"step {choice.step} of {len(found.result.history)}{kind}{far}{by}"


def _choice_section(found: CrossValidation) -> Section:
    """The cross-validated score of each step and of each scale."""
    panels: dict[str, dict[str, Curve]] = {"step t, scale 1": {}, "scale, last step": {}}
    last = max(candidate.step for candidate in found.candidates)
    for kind in ("method", "identity"):
        own = [c for c in found.candidates if c.kind == kind and c.score is not None]
        steps = sorted((c.step, c.score or 0.0) for c in own if c.scale == 1)
        scales = sorted((c.scale, c.score or 0.0) for c in own if c.step == last)
        for title, points in zip(panels, (steps, scales), strict=True):
            if len(points) > 1:
                x, y = zip(*points, strict=True)
                panels[title][kind] = Curve(x, [100 * score for score in y])
    drawn = {title: curves for title, curves in panels.items() if curves}
    picture = png(draw(drawn, xlabel="", ylabel="cross-validated accuracy (%)")) if drawn else b""
    text = (
        "Each fold was scored with the candidates that were matched on the other folds; the "
        "candidate with the best mean score was chosen."
    )
    return Section("How step and scale were chosen", text, picture=picture)
