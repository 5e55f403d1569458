"""A page in one file: text and tables as HTML, numbers and pictures as data for its scripts, nothing from outside."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.files import replacing

_SCRIPTS = ("base.js", "eye.js", "scene.js", "plots.js", "page.js")


@dataclass(frozen=True)
class Figure:
    """A number that matters, as it is shown.

    Attributes:
        label: what it is.
        value: the number; empty where it is not known.
        unit: of it, or what it counts.
        detail: a line below, such as the alignment that it holds for.
        tone: `good`, `bad` or empty.
    """

    label: str
    value: str
    unit: str = ""
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers.

    Attributes:
        title: over it.
        rows: of equal length; the first column names the row.
        head: names of the columns; none where there are two.
        detail: a line below.
    """

    title: str
    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """What the report says in words, and the data of its drawings.

    Attributes:
        title: name of the input.
        state: `complete`, `interrupted` or `failed`.
        lead: a line below the title.
        error: why it failed.
        figures: in order.
        accuracy: tables of the comparison with the truth.
        notes: what the reader should know, a line each.
        settings: tables.
        data: for the scripts: strings, numbers, lists and dicts. NaN and infinity become null.
    """

    title: str
    state: str = "complete"
    lead: str = ""
    error: str = ""
    figures: Sequence[Figure] = ()
    accuracy: Sequence[Table] = ()
    notes: Sequence[str] = ()
    settings: Sequence[Table] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """The page, complete with styles and scripts; all words are escaped."""
        folder = files("trianflow.visualization").joinpath("page")
        accuracy = "".join(_details(table, "open") for table in self.accuracy)
        parts = {
            "title": escape(self.title),
            "style": folder.joinpath("page.css").read_text("utf-8"),
            "state": escape(self.state),
            "lead": escape(self.lead),
            "error": f'<p class="error" role="alert">{escape(self.error)}</p>' if self.error else "",
            "figures": "".join(map(_figure, self.figures)),
            "accuracy": _section("Compared with the truth", accuracy),
            "notes": _section("Notes", _list(self.notes)),
            "settings": _section("Settings", "".join(map(_details, self.settings))),
            "data": script_data(self.data),
            "script": "".join(folder.joinpath(name).read_text("utf-8") for name in _SCRIPTS),
        }
        pieces = folder.joinpath("page.html").read_text("utf-8").split("<!--@")
        filled = (parts[name] + rest for name, _, rest in (piece.partition("-->") for piece in pieces[1:]))
        return pieces[0] + "".join(filled)

    def save(self, path: str | Path) -> None:
        """Write the page; an older file is replaced at once, never half.

        Raises:
            TrianflowError: the file cannot be written.
        """
        path = Path(path)
        try:
            with replacing(path) as beside:
                beside.write_bytes(self.html().encode("utf-8", "replace"))  # a name may hold what is no text
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the report: {e.strerror}") from e


def script_data(value: Any) -> str:
    """JSON that may stand inside of a script element; NaN and infinity become null, numpy arrays lists."""
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def packed(array: np.ndarray) -> str:
    """The bytes of an array in base64, row by row: little-endian, float64 as float32."""
    array = np.asarray(array)
    kind = np.dtype("<f4") if array.dtype.kind == "f" else array.dtype.newbyteorder("<")
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode("ascii")


def rounded(values: Sequence[float | None], digits: int = 5) -> list[float | None]:
    """Numbers to so many significant digits; None for what is not finite."""
    return [float(f"{v:.{digits}g}") if v is not None and math.isfinite(v) else None for v in values]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _figure(figure: Figure) -> str:
    unit = f' <span class="unit">{escape(figure.unit)}</span>' if figure.unit else ""
    value = f"{escape(figure.value)}{unit}" if figure.value else "–"
    detail = f"<dd>{escape(figure.detail)}</dd>" if figure.detail else ""
    label = f'<dt>{escape(figure.label)}</dt><dd class="value">{value}</dd>'
    return f'<div class="figure {escape(figure.tone)}">{label}{detail}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _details(table: Table, state: str = "") -> str:
    """A table that opens and closes on a click."""
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in table.head)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    detail = f"<p>{escape(table.detail)}</p>" if table.detail else ""
    body = f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>{detail}'
    return f"<details {state}><summary>{escape(table.title)}</summary>{body}</details>"
