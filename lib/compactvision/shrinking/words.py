"""The report in words: a table, and the sentences that follow from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compactvision.plots.escape import as_markdown

if TYPE_CHECKING:
    from compactvision.shrinking.report import Report, Row

BESIDE = {
    "random_tuned": "random channels at the same budget, tuned alike",
    "resolution_tuned": "lower resolution with no more MACs, tuned alike",
    "resolution": "lower resolution with no more MACs",
    "whole_tuned": "the whole network, tuned alike",
    "bf16": "the whole network in bf16",
}


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    head = ("network", report.metric, "parameters", "MACs", "ms (quartiles)", "remark")
    lines = [_line(head), _line(["---", *["---:"] * 4, "---"])]
    lines += [_line([as_markdown(cell) for cell in cells(report, row)]) for row in report.rows]
    sentences = [f"- {as_markdown(sentence)}" for sentence in report.findings()]
    return "\n".join([*lines, "", *sentences, "", as_markdown(conditions(report)), ""])


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def cells(report: Report, row: Row) -> list[str]:
    """Return a row as texts."""
    return [
        row.title,
        shown(report, row.metric),
        "–" if row.parameters is None else f"{row.parameters:,}",
        "–" if row.macs is None else f"{row.macs:,}",
        "–" if row.ms is None else "{:.3g} ({:.3g} to {:.3g})".format(*row.ms),
        row.remark,
    ]


def shown(report: Report, value: float | None) -> str:
    """Return a value of the metric: accuracies in percent."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if report.metric == "accuracy" else f"{value:.4g}"


def conditions(report: Report) -> str:
    """Return one sentence on how it was measured."""
    said = report.conditions
    images = "" if report.images is None else f" on {report.images:,} test images"
    return (
        f"{report.metric}{images}; {report.steps:,} steps of tuning each; milliseconds of one picture on "
        f"{said.get('device')}, {said.get('threads')} threads, {said.get('runs')} runs in turn, BatchNorm folded; "
        f"{said.get('seconds', 0) / 60:.1f} minutes; torch {said.get('torch')}."
    )


def findings(report: Report) -> list[str]:
    """Return the sentences that follow from the table."""
    return [_budget(report), *_stages(report), *_beside(report)]


def _budget(report: Report) -> str:
    said = report.budget
    if said["name"] == "keep_macs":
        reached, asked = f"{100 * said['reached']:.1f} % of the MACs", f"{100 * said['asked']:.1f} %"
    else:
        reached, asked = f"{said['reached']:.3g} ms", f"{said['asked']:.3g} ms"
    if said["met"]:
        return f"Budget met: {reached} (asked for: {asked})."
    if said["reached"] < said["asked"]:
        return (
            f"Below the budget: {reached} (asked for: {asked}); one channel more would be above, or nothing had to go."
        )
    return f"Budget not met: {reached} is as near as it came (asked for: {asked})."


def _stages(report: Report) -> list[str]:
    found = {row.stage: row for row in report.rows}
    sentences = []
    for stage, word in (("reconstructed", "Least squares"), ("renewed", "Renewing BatchNorm")):
        row = found.get(stage)
        if row is not None and row.remark:
            sentences.append(f"{word}: {row.remark}.")
    tuned, whole = found.get("tuned"), found.get("whole")
    sentences += _harm(report)
    if tuned is not None and tuned.metric is not None and whole is not None and whole.metric is not None:
        speed = ""
        if tuned.ms is not None and whole.ms is not None:
            speed = f", {whole.ms[0] / tuned.ms[0]:.2f} times as fast"
        share = (
            "" if not (tuned.macs and whole.macs) else f" with {100 * tuned.macs / whole.macs:.1f} % of the MACs{speed}"
        )
        sentences.append(
            f"The small network: {shown(report, tuned.metric)} after {shown(report, whole.metric)}{share}."
        )
    return sentences


def _harm(report: Report) -> list[str]:
    """Return a sentence where the network was better before it was tuned, with what may help."""
    rows = report.measured(("cut", "reconstructed", "renewed", "tuned"))
    if len(rows) < 2 or rows[-1].stage != "tuned" or not rows[-1].metric < rows[-2].metric:
        return []
    before, behind = (shown(report, row.metric) for row in rows[-2:])
    renewed = next((row for row in report.rows if row.stage == "renewed"), None)
    help_ = "a lower learning_rate or more epochs may help"
    if renewed is not None and renewed.remark.startswith("not kept"):
        help_ += ", or frozen_batch_norm=True, since renewing BatchNorm did harm, too"
    return [f"Tuning made it worse: {before} before, {behind} behind it; {help_}."]


def _beside(report: Report) -> list[str]:
    """Compare the result with each rival."""
    result = _result(report)
    if result is None:
        return []
    found = {row.stage: row for row in report.rows}
    if "resolution_tuned" in found and found["resolution_tuned"].metric is not None:
        found.pop("resolution", None)
    return [
        f"Beside {words}: {_compared(report, result, found[stage])}."
        for stage, words in BESIDE.items()
        if stage in found and found[stage].metric is not None
    ]


def _result(report: Report) -> Row | None:
    """Return the last stage of the small network that was measured."""
    rows = report.measured(("cut", "reconstructed", "renewed", "tuned"))
    return rows[-1] if rows else None


def _compared(report: Report, result: Row, rival: Row) -> str:
    """Return which of two is better; for an accuracy, whether more than two standard errors apart."""
    assert result.metric is not None
    assert rival.metric is not None
    difference = result.metric - rival.metric
    size = f"{100 * abs(difference):.1f} points" if report.metric == "accuracy" else f"{abs(difference):.3g}"
    if report.metric == "accuracy" and report.images and abs(difference) <= noise(result, rival, report.images):
        said = f"no difference that {report.images:,} test images could show ({size})"
    elif difference == 0:
        said = "no difference"
    else:
        said = f"{'better' if difference > 0 else 'worse'} by {size}"
    if result.ms is not None and rival.ms is not None:
        said += f", at {result.ms[0] / rival.ms[0]:.2f} times its milliseconds"
    return said


def noise(one: Row, other: Row, images: int) -> float:
    """Return two standard errors of the difference of two accuracies, taken for independent."""
    assert one.metric is not None
    assert other.metric is not None
    return 2 * math.sqrt(sum(row.metric * (1 - row.metric) for row in (one, other) if row.metric is not None) / images)


def skipped(reason: str) -> str:
    """Return what a row says of a stage that was left out."""
    return f"skipped: {reason}"
