"""The plots of the page: curves of the verdict, calibration, scores by truth, and overlap of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics import Predictions
from training.metrics.binary import roc
from training.metrics.boxes import clamped_iou
from training.metrics.calibration import p_fake
from training.metrics.types import average_precision
from training.report.page.scales import Frame, Mark, Plot, ceiling

Floats = NDArray[np.floating]

SCORE_BINS = 20
IOU_BINS = 20


def all_plots(predictions: Predictions, metrics: Mapping[str, Any]) -> dict[str, Plot]:
    """Return the plots by name; one that needs rows which are not there is left out."""
    fake = predictions.is_fake
    found: list[Plot | None] = []
    if fake.any() and not fake.all():
        wide = predictions.logits_binary.astype(np.float64)
        margin = wide[:, 1] - wide[:, 0]
        found += [roc_plot(margin, fake, metrics), recall_plot(margin, fake)]
        found.append(score_plot(p_fake(predictions), fake))
    if len(predictions):
        found.append(reliability_plot(metrics["calibration"]))
    found.append(iou_plot(predictions))
    return {plot.name: plot for plot in found if plot is not None}


def roc_plot(margin: Floats, fake: NDArray[np.bool_], metrics: Mapping[str, Any]) -> Plot:
    """Return the ROC curve with the operating points."""
    alarms, hits = roc(margin, fake)
    frame = Frame()
    marks = [frame.line("chance", (0, 0), (1, 1)), Mark("path", "curve", d=frame.path(alarms, hits))]
    for name, label, drop in (("fpr_1", "1%", 30), ("fpr_5", "5%", 22), ("fpr_10", "10%", 14)):
        point = metrics["operating_points"][name]
        if point["tpr"] is None:
            continue
        words = f"{percent(point['tpr'])} of the fakes at {percent(point['fpr'])} false alarms"
        marks.append(frame.dot("point", point["fpr"], point["tpr"], 4, words))
        marks.append(frame.text("note", point["fpr"] + 0.02, point["tpr"], label, drop=drop))
    ends = metrics["operating_points"]["fpr_5"]
    summary = (
        f"Area under the curve {percent(metrics['auc'])}. At 5% false alarms {percent(ends['tpr'])} of the "
        "fakes are found. Dots: 1, 5 and 10% false alarms."
    )
    return Plot(
        "roc", "Fakes found against false alarms (ROC)", summary, "real rows flagged, %", "fakes flagged, %",
        frame.x_ticks(), frame.y_ticks(), marks, (("curve", "the model"), ("chance", "chance")),
    )  # fmt: skip


def recall_plot(margin: Floats, fake: NDArray[np.bool_]) -> Plot:
    """Return the precision-recall curve of the fake class."""
    order = np.argsort(-margin, kind="stable")
    ranked, truth = margin[order], fake[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(truth)[last]
    recall, precision = hits / hits[-1], hits / (last + 1)
    share = float(fake.mean())
    frame = Frame()
    marks = [
        frame.line("chance", (0, share), (1, share)),
        Mark("path", "curve", d=frame.path(np.append(0, recall), np.append(precision[0], precision))),
    ]
    summary = (
        f"Average precision {percent(average_precision(margin, fake))}; flagging at random has the share of "
        f"fakes, {percent(share)}."
    )
    return Plot(
        "recall", "Precision against recall", summary, "fakes flagged (recall), %",
        "flagged rows that are fake, %",
        frame.x_ticks(), frame.y_ticks(), marks, (("curve", "the model"), ("chance", "at random")),
    )  # fmt: skip


def score_plot(p: Floats, fake: NDArray[np.bool_]) -> Plot:
    """Return the histogram of p_fake for real and for fake rows."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    real_counts = np.histogram(p[~fake], edges)[0]
    fake_counts = np.histogram(p[fake], edges)[0]
    real_share, fake_share = real_counts / (~fake).sum(), fake_counts / fake.sum()
    frame = Frame(ceiling(float(max(real_share.max(), fake_share.max()))))
    marks = []
    for k in range(SCORE_BINS):
        middle = (edges[k] + edges[k + 1]) / 2
        span = f"p_fake {100 * edges[k]:.0f} to {100 * edges[k + 1]:.0f}%"
        for kind, left, right, share, count in (
            ("real", edges[k], middle, real_share[k], real_counts[k]),
            ("fake", middle, edges[k + 1], fake_share[k], fake_counts[k]),
        ):
            if count:
                words = f"{span}: {count:,} {kind} rows ({percent(share)})"
                marks.append(frame.bar(kind, left, right, share, words))
    marks.append(frame.line("threshold", (0.5, 0), (0.5, frame.top)))
    summary = (
        f"Median p_fake {percent(float(np.median(p[~fake])))} on real rows and "
        f"{percent(float(np.median(p[fake])))} on fakes. The dashed line is the verdict's threshold."
    )
    return Plot(
        "scores", "Scores of real and fake rows", summary, "p_fake, %", "share of the class, %",
        frame.x_ticks(), frame.y_ticks(), marks, (("real", "real rows"), ("fake", "fakes")),
    )  # fmt: skip


def reliability_plot(calibration: Mapping[str, Any]) -> Plot:
    """Return the reliability diagram; a dot's area grows with the rows of its bin."""
    frame = Frame()
    bins = [one for one in calibration["bins"] if one["rows"]]
    most = max(one["rows"] for one in bins)
    line = frame.line("curve", *((one["p"], one["fake"]) for one in bins))
    marks = [frame.line("chance", (0, 0), (1, 1)), line]
    for one in bins:
        words = f"{one['rows']:,} rows: said {percent(one['p'])}, fake are {percent(one['fake'])}"
        radius = 2.5 + 7 * float(np.sqrt(one["rows"] / most))
        marks.append(frame.dot("bubble", one["p"], one["fake"], radius, words))
    summary = (
        f"Expected calibration error {percent(calibration['ece'])}, Brier score {calibration['brier']:.3f} "
        f"(always saying the share of fakes: {calibration['brier_base']:.3f}). On the dashed line p_fake is "
        "right; above it the model says too little. A dot's area shows its rows."
    )
    return Plot(
        "reliability", "Calibration of p_fake", summary, "mean p_fake, %", "fakes among them, %",
        frame.x_ticks(), frame.y_ticks(), marks, (("curve", "the model"), ("chance", "perfectly calibrated")),
    )  # fmt: skip


def iou_plot(predictions: Predictions) -> Plot | None:
    """Return the histogram of IoU over face-edited rows, or None without any."""
    true = predictions.box_true_cxcywh
    rows = predictions.face_edited & (true[:, 2:] > 0).all(axis=1)
    if not rows.any():
        return None
    overlap = clamped_iou(predictions.box_pred_cxcywh[rows], true[rows])
    boxless = int((predictions.box_pred_cxcywh[rows] == 0).all(axis=1).sum())
    edges = np.linspace(0, 1, IOU_BINS + 1)
    counts = np.histogram(overlap, edges)[0]
    shares = counts / len(overlap)
    frame = Frame(ceiling(float(shares.max())))
    marks = [
        frame.bar(
            "bar",
            edges[k],
            edges[k + 1],
            shares[k],
            f"IoU {100 * edges[k]:.0f} to {100 * edges[k + 1]:.0f}%: {counts[k]:,} rows",
        )
        for k in range(IOU_BINS)
        if counts[k]
    ]
    mean = float(overlap.mean())
    marks.append(frame.line("threshold", (mean, 0), (mean, frame.top)))
    summary = (
        f"{len(overlap):,} rows, mean {percent(mean)} (dashed); {percent(float((overlap > 0.5).mean()))} "
        f"overlap by more than half. For {boxless:,} rows no box was predicted; they count as 0."
    )
    return Plot(
        "iou", "Overlap of boxes on face-edited rows", summary, "IoU, %", "share of the rows, %",
        frame.x_ticks(), frame.y_ticks(), marks,
    )  # fmt: skip


def percent(value: float | None) -> str:
    """Return a fraction in percent with one digit, a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}%"
