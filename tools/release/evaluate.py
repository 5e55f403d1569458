"""Print what bundled weights have to show, flow beside OpenCV's DIS; what was measured before is not measured again.

    python tools/release/evaluate.py [WEIGHTS ...] [--quick] [--log NAME] [--rows dis pwc pwc+dis ...]

WEIGHTS are names of bundled weights or .safetensors files (default: `driving`). Rows: `dis`, preset medium; `pwc`, the
network at the size of its training; `pwc+dis`, the same carried on by DIS; and with 832 behind them these two with the
network at 832x256. Under each stand the motions by the same flow where its matches are brought to a fraction of a pixel
(`matches.refine`, as the odometry does). --quick takes a small subset. --log appends the rows to LOG.md beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from measures import Figures, depth_parts, flow_parts

from trianflow.config import NetworkConfig, OdometryConfig
from trianflow.evaluation.table import Column, Row, Table
from trianflow.files import replacing
from trianflow.flow.interface import FlowEstimator
from trianflow.odometry.estimators import flow_of, learned_depth
from trianflow.weights import load_weights

HERE = Path(__file__).resolve().parent
LOG = HERE / "LOG.md"
STATE = Path("runs/evaluation/2")  # another number where other things are measured
ROWS = ("dis", *(f"{row}{size}" for size in ("", "832") for row in ("pwc", "pwc+dis")))
_LARGE = (832, 256)
_MOTIONS = ("07/1", "06/1", "06/2", "06/3", "01/1", "01/2", "01/3")
_LOG_HEAD = """# Figures of the weights as they were trained

Of `evaluate.py`. Flow, KITTI sequences by number and stride: median rotation °/direction °/share of pixels within 1 px
of the true epipolar line %. Depth: AbsRel/share within 1.25 after median scaling by image/spread of that scale %; and
t_err of `vo` on 07 by its source of scale. Rows with "matches refined" have no share: they are of the same flow, whose
matches are brought to a fraction of a pixel as the odometry does.
"""
_FLOW = [
    *(Column(name, name) for name in _MOTIONS),
    Column("kitti2015.epe", "KITTI 2015 px", 2),
    Column("kitti2015.outliers", "Fl %", 1),
    Column("rubberwhale.epe", "RubberWhale px", 3),
    Column("synthetic.epe", "synthetic px", 2),
]


def estimator_of(row: str, weights: str) -> FlowEstimator:
    """The flow of a row."""
    kind = row.removesuffix("832")
    size = None if kind == row else _LARGE
    return flow_of(OdometryConfig.model_validate({"flow": kind, "weights": weights, "network_size": size}))


def measured(parts: Mapping[str, Callable[[], Figures]], file: Path) -> dict[str, Figures]:
    """The figures of all parts; each is kept in a file as soon as it is known."""
    known: dict[str, Figures] = json.loads(file.read_text()) if file.exists() else {}
    for name, measure in parts.items():
        if name in known:
            continue
        begin = time.perf_counter()
        known[name] = measure()
        print(f"{file.stem}: {name}, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n")
    return {name: known[name] for name in parts}


def flow_cells(figures: Mapping[str, Figures]) -> list[str]:
    """What stands in a row of flow: rotation °/direction °/share near the true line %, then end-point errors."""
    cells = [f"{f['rot']:.3f}/{f['dir']:.2f}/{100 * f['near']:.0f}" for f in (figures[name] for name in _MOTIONS)]
    for column in _FLOW[len(_MOTIONS) :]:
        part, key = column.key.split(".")
        cells.append(f"{figures[part][key]:.{column.digits}f}")
    return cells


def fine_cells(figures: Mapping[str, Figures]) -> list[str]:
    """What stands in the row below it: rotation °/direction ° of refined matches."""
    cells = [f"{f['fine_rot']:.3f}/{f['fine_dir']:.2f}" for f in (figures[name] for name in _MOTIONS)]
    return cells + ["-"] * (len(_FLOW) - len(_MOTIONS))


def depth_table(rows: Mapping[str, Mapping[str, Figures]]) -> str:
    """Depth by data and weights."""
    columns = [Column("abs_rel", "AbsRel"), Column("d1", "<1.25"), Column("spread", "spread of scale")]
    found = [
        Row(f"{weights}, {name}", dict(figures))
        for weights, parts in rows.items()
        for name, figures in parts.items()
        if "abs_rel" in figures
    ]
    text = Table("depth", columns, found).text() if found else ""
    for weights, parts in rows.items():
        if "scale" in parts:
            words = ", ".join(f"{name} {value:.2f}" for name, value in parts["scale"].items())
            text += f"\n\n{weights}: vo on 07, t_err % over 20 to 80 m by scale: {words}"
    return text


def depth_cells(figures: Mapping[str, Figures]) -> dict[str, str]:
    """What stands in a row of depth: AbsRel/share within 1.25/spread of the scale %; t_err % by scale."""
    cells = {}
    for name, f in figures.items():
        if "abs_rel" in f:
            cells[name] = f"{f['abs_rel']:.3f}/{f['d1']:.2f}/{100 * f['spread']:.0f}"
        else:
            cells[f"07, {', '.join(f)}"] = "/".join(f"{value:.2f}" for value in f.values())
    return cells


def facts_of(card: Mapping[str, Any], network: str) -> list[str]:
    """Steps and size of a network's training, of the card of its weights."""
    told = (card.get(key) for key in ("steps", "size"))
    steps, size = (value.get(network) if isinstance(value, dict) else value for value in told)
    return ["-" if steps is None else str(steps), "x".join(map(str, size or ["-"]))]


def append(log: Path, name: str, row: str, facts: list[str], cells: Mapping[str, str]) -> None:
    """A row at the end of the log's table with these columns, which is begun where there is none."""
    text = log.read_text() if log.exists() else _LOG_HEAD
    head = "| " + " | ".join(["date", "name", "row", "data", "steps", "size", *cells]) + " |"
    if head not in text:
        text += f"\n{head}\n" + "|---" * (head.count("|") - 1) + "|\n"
    begin = text.index(head)
    end = text.find("\n\n", begin) + 1 or len(text)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    line = "| " + " | ".join([date, name, row, *facts, *cells.values()]) + " |\n"
    log.write_text(text[:end] + line + text[end:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["driving"])
    parser.add_argument("--quick", action="store_true", help="a small subset, for a first look")
    parser.add_argument("--log", metavar="NAME", help="append the rows to LOG.md under this name")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["dis", "pwc", "pwc+dis"])
    data = HERE.parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRIANFLOW_DATA", data)))
    args = parser.parse_args()
    if not args.data.is_dir():
        parser.error(f"no data at {args.data}; set TRIANFLOW_DATA")
    kind = "quick" if args.quick else "full"
    table, depths = [["flow", *(column.title for column in _FLOW)]], {}
    for place, weights in enumerate(args.weights):
        loaded = load_weights(weights)
        card: dict[str, Any] = loaded.card
        named_data = ", ".join(card.get("data", [])) or "-"
        digest = str(card.get("sha256") or hashlib.sha256(Path(weights).read_bytes()).hexdigest())[:12]
        for row in args.rows:
            if (row == "dis" and place) or (row != "dis" and loaded.flow is None):
                continue
            mark = "dis" if row == "dis" else f"{row}-{digest}"
            file = STATE / f"{mark}-{kind}.json"
            parts = flow_parts(estimator_of(row, weights), args.data, Path("runs/cache/release"), args.quick)
            figures = measured(parts, file)
            for how, cells in (("", flow_cells(figures)), (", matches refined", fine_cells(figures))):
                table.append([f"{row}{how}" if row == "dis" else f"{row}, {loaded.name}{how}", *cells])
                if args.log:
                    named = dict(zip((column.title for column in _FLOW), cells))
                    facts = ["-"] * 3 if row == "dis" else [named_data, *facts_of(card, "flow")]
                    append(LOG, args.log, f"{row}{how} {kind}", facts, named)
        if loaded.depth is not None:
            network = learned_depth(NetworkConfig(weights=weights))
            parts = depth_parts(network, weights, args.data, args.quick)
            depths[loaded.name] = measured(parts, STATE / f"depth-{digest}-{kind}.json")
            if args.log:
                facts = [named_data, *facts_of(card, "depth")]
                append(LOG, args.log, f"depth {kind}", facts, depth_cells(depths[loaded.name]))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    print("\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table))
    print("07/1 and the like: rotation °/direction °/pixels within 1 px of the true epipolar line %")
    if depths:
        print("\n" + depth_table(depths))


if __name__ == "__main__":
    main()
