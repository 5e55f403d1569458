"""Runs that never were, as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from trianflow.flow.interface import FlowPair
from trianflow.visualization.html_page import Figure, Page, Table
from trianflow.visualization.html_run import Curve, RunView, run_data
from trianflow.visualization.html_thumbnails import FrameView, Thumbnails

STATUSES = ("ok", "planar", "lost", "pnp")


def a_row(index: int, status: str = "ok", **changed: Any) -> dict[str, Any]:
    """A row of `report.json`."""
    row = {
        "index": index,
        "time": index / 10,
        "name": f"{index:06d}.png",
        "status": status,
        "matches": 2000,
        "inlier_ratio": 0.9,
        "parallax": 3.0,
        "scale": 1.0,
        "scale_source": "structure",
        "scale_shares": {},
        "scale_sigma": None,
        "tracks": 200,
        "window": "",
        "key_frame": index - 1 if index else None,
        "ms": 80.0,
        "note": "",
    }
    return row | changed


def a_view(number: int, truth: bool = True, points: int = 2000) -> RunView:
    """A bend that is driven along, a pose a frame."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2, number)
    T_wc = np.tile(np.eye(4), (number, 1, 1))
    T_wc[:, 0, 3], T_wc[:, 2, 3] = 40 * (1 - np.cos(angle)), 40 * np.sin(angle)
    T_wc[:, 0, 0] = T_wc[:, 2, 2] = np.cos(angle)
    T_wc[:, 0, 2], T_wc[:, 2, 0] = np.sin(angle), -np.sin(angle)
    rows = [a_row(i, STATUSES[i // 7 % 4] if i else "first") for i in range(number)]
    cloud = T_wc[rng.integers(number, size=points), :3, 3] + rng.normal(0, 5, (points, 3))
    errors = rng.gamma(2.0, 0.1, number)
    curves = [
        Curve(title, unit, rng.gamma(4.0, 1.0, number).tolist(), "made up")
        for title, unit in (("Error", "m"), ("Inliers", "%"), ("Parallax", "px"), ("Scale", "m"), ("Time", "ms"))
    ]
    view = RunView(rows, T_wc, "m" if truth else "units", curves=curves, cloud=cloud)
    view.colors = rng.integers(0, 256, (points, 3)).astype(np.uint8)
    if truth:
        view.truth, view.alignment, view.errors = T_wc[:, :3, 3] + 0.5, "Sim(3), 7-DoF", errors
    return view


def a_frame(width: int = 310, height: int = 94) -> FrameView:
    """A frame with all that can be drawn of it; its flow goes to the right."""
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), 3)
    flow_ab = torch.zeros(1, 2, height, width)
    flow_ab[:, 0] = 5
    p_a = rng.uniform([5, 5], [width - 15, height - 5], (500, 2))
    inlier = np.arange(500) % 5 > 0
    depth = np.linspace(2, 40, height, dtype=np.float32)[:, None].repeat(width, 1)
    return FrameView(image, FlowPair(flow_ab, -flow_ab), p_a, p_a + np.array([5, 0]), inlier, depth, None, "m")


def some_thumbnails(number: int, width: int = 310, height: int = 94) -> Thumbnails:
    """The pictures of a run of so many frames; the first has an image alone."""
    thumbnails, frame = Thumbnails(), a_frame(width, height)
    for row in range(number):
        thumbnails.offer(row, lambda first=row == 0: FrameView(frame.image) if first else frame)
    return thumbnails


def a_page(number: int, title: str = "drive.mp4", view: RunView | None = None, **changed: Any) -> Page:
    """The page of a run of so many frames."""
    thumbnails = changed.pop("thumbnails", None) or some_thumbnails(number)
    return Page(
        title,
        lead=f"{number} frames",
        figures=[Figure("Frames", str(number), "", "all well"), Figure("ATE, rmse", "0.3", "m", "Sim(3), 7-DoF")],
        accuracy=[Table("Pose error", [["ATE (m)", "0.3", "0.2"]], ("", "rmse", "mean"), "Sim(3)")],
        notes=["a note"],
        settings=[Table("Configuration", [["two_view.threshold", "1.5"]])],
        data=run_data(view or a_view(number), thumbnails),
        **changed,
    )


def saved(page: Page, folder: Path) -> Path:
    """The page as a file."""
    path = folder / "report.html"
    page.save(path)
    return path
