"""What the page of a run says in words and tables, from the contents of `report.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trianflow.evaluation.alignment import Alignment
from trianflow.visualization.html_page import Figure, Table

UNITS = {"metres": "m", "network": "units of the network", "arbitrary": "units"}
_ORIGINS = {
    "metres": "",
    "network": "in the unit of the depth network",
    "arbitrary": "arbitrary unit: one camera does not tell the scale",
}
_SETTINGS = {
    "input": "Input",
    "calibration": "Calibration",
    "config": "Configuration",
    "networks": "Networks",
    "threads": "Threads",
    "versions": "Versions",
}
_STATISTICS = ("rmse", "mean", "median", "max")


def title(report: Mapping[str, Any]) -> str:
    """Name of the input, of a folder with that which it lies in; empty where there is none."""
    given = report.get("input") or {}
    if given.get("kind") == "folder":
        return "/".join(Path(given["path"]).parts[-2:])
    return str(given.get("name", ""))


def lead(report: Mapping[str, Any]) -> str:
    """A line that says what was done; it does not break between a number and its unit."""
    summary, camera = report["summary"], report.get("calibration")
    size = f" of {camera['width']}\u00a0×\u00a0{camera['height']}\u00a0pixels" if camera and camera["width"] else ""
    number = summary["frames"]
    words = [f"{number:,}\u00a0frame{'s' * (number != 1)}{size}", f"tracked in {summary['seconds']:,.1f}\u00a0s"]
    if report.get("preset"):
        words.append(f"preset {report['preset']}")
    return " · ".join(words)


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The run in a handful of numbers; those against the truth name their alignment."""
    summary, truth, guessed = report["summary"], report["evaluation"], report["summary"]["guessed"]
    counts = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in summary["statuses"].items())
    detail = f"{guessed} guessed: {counts}" if guessed else counts
    unit = summary["unit"]
    found = [
        Figure("Frames", f"{summary['frames']:,}", "", detail, "bad" if guessed else ""),
        Figure("Path", short(summary["path_length"]), UNITS[unit], _ORIGINS[unit]),
        Figure("Speed", short(summary["fps"]), "frames/s", f"median {short(summary['ms_median'])} ms a frame"),
        Figure("Key frames", f"{summary['key_frames']:,}"),
    ]
    if truth is not None:
        found += _errors(truth)
    loops = report["back_end"].get("loops")
    if loops is not None:
        kept = f"kept of {loops['found']} that were found" if loops["found"] else "none was found"
        found.append(Figure("Loops", str(len(loops["kept"])), "", kept))
    return found


def _errors(truth: Mapping[str, Any]) -> list[Figure]:
    label, ate, rpe = _alignment(truth), truth["ate"], truth["rpe"]
    found = []
    if ate is not None:
        length = truth["path_length"]
        share = f"{100 * ate['rmse'] / length:.2f} % of {short(length)} m; " if length > 0 else ""
        found.append(Figure("ATE, rmse", short(ate["rmse"]), "m", f"{share}alignment {label}"))
    if truth["t_err"] is not None:
        detail = f"r_err {short(truth['r_err'])} °/100 m; KITTI segments, alignment {label}"
        found.append(Figure("t_err", f"{truth['t_err']:.2f}", "%", detail))
    elif rpe is not None:
        detail = f"{short(rpe['rotation']['rmse'])}°; frame to frame, rmse, alignment {label}"
        found.append(Figure("RPE", short(rpe["translation"]["rmse"]), "m", detail))
    return found


def _alignment(truth: Mapping[str, Any]) -> str:
    """The words for it; lines do not break in 7-DoF."""
    return Alignment(truth["alignment"]).label.replace("-", "\u2011")


def accuracy(truth: Mapping[str, Any] | None) -> list[Table]:
    """The comparison with the truth (`evaluation` of the report), each table with its alignment."""
    if truth is None:
        return []
    label = _alignment(truth)
    said = f"Alignment to the truth: {label}, scale {short(truth['scale'])}; {truth['compared']} poses compared."
    rows = []
    if truth["ate"] is not None:
        rows.append(["ATE (m)", *(short(truth["ate"][word]) for word in _STATISTICS)])
    if truth["rpe"] is not None:
        for key, unit in (("translation", "m"), ("rotation", "°")):
            rows.append([f"RPE, {key} ({unit})", *(short(truth["rpe"][key][word]) for word in _STATISTICS)])
    tables = [Table("Absolute and relative pose error", rows, ("", *_STATISTICS), said)] if rows else []
    segments = [
        [f"{e['length']:g} m", short(e["t_err"]), short(e["r_err"]), str(e["segments"])]
        for e in truth["per_length"]
        if e["segments"]
    ]
    if segments:
        head = ("segments of", "t_err (%)", "r_err (°/100 m)", "number")
        tables.append(Table("KITTI errors by length of the segment", segments, head, said))
    return tables


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Notes on the input and remarks on frames, a line each."""
    lines = list(report["notes"])
    for remark in report["remarks"]:
        more = f", the first of {remark['count']}" if remark["count"] > 1 else ""
        lines.append(f"Frame {remark['first']}{more}: {remark['status'].replace('_', ' ')}: {remark['text']}")
    return lines


def settings(report: Mapping[str, Any]) -> list[Table]:
    """What the run was given, a table for each kind."""
    tables = []
    for key, title in _SETTINGS.items():
        rows = _flat(report.get(key) or {})
        if key == "config" and report.get("preset"):
            rows.insert(0, ["preset", str(report["preset"])])
        if rows:
            tables.append(Table(title, rows))
    return tables


def short(value: float | None) -> str:
    """A number in three digits, whole where it is large; empty for None and what is not finite."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 999.5 or value == 0 else f"{value:#.3g}".rstrip(".")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Nested settings as rows of a dotted key and a value."""
    rows: list[list[str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append([f"{prefix}{key}", _word(value)])
    return rows


def _word(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_word, value)) or "–"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
