"""Does it learn? All three stages from scratch on the synthetic world, judged on scenes that were held out.

    python tools/prove_learning.py            # about an hour on two cores; goes on where it was stopped
    python tools/prove_learning.py --report   # only the report of what is there

Runs, in `--out` (default out/prove_learning):
    main      flow, depth, joint, as configs/prove.yaml says
    no_ld     the depth stage without L_d, from the same flow: the paper reports that depth then does not converge
    control   the flow stage prolonged by the steps of the joint stage: what joint training adds to mere time
Writes report.md, report.json and curves.png, prints the report, and exits with 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from trianflow.config import load_settings
from trianflow.training.config import TrainConfig
from trianflow.training.engine import choose_training_precision
from trianflow.training.log import VALIDATION
from trianflow.training.loop import Trainer

CONFIG = Path(__file__).parent.parent / "configs" / "prove.yaml"
Row = dict[str, float]


@dataclass(frozen=True)
class Claim:
    """A statement of the report, the figures behind it, and whether it holds."""

    text: str
    figures: str
    holds: bool


def figures(folder: Path, stage: str) -> list[Row]:
    """The validations of a stage, in order."""
    if not (folder / VALIDATION).is_file():
        sys.exit(f"{folder}: nothing has been trained there yet")
    with open(folder / VALIDATION, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == stage]
    if not rows:
        sys.exit(f"{folder}: the stage {stage} has not been trained yet")
    return [{key: float(value) for key, value in row.items() if key != "stage" and value} for row in rows]


def judge(out: Path) -> list[Claim]:
    """What the runs show."""
    flow, depth, joint = (figures(out / "main", stage) for stage in ("flow", "depth", "joint"))
    without, control = figures(out / "no_ld", "depth"), figures(out / "control", "flow")
    first, last, zero = flow[0], flow[-1], flow[-1]["epe_zero"]
    half = next((row for row in flow if row["epe"] < zero / 2), None)
    in_time = [row for row in depth if row["seconds"] - last["seconds"] < 20 * 60] or depth[:1]
    late = flow[3 * len(flow) // 4]
    gain = in_time[-1]["abs_rel"] / depth[-1]["abs_rel_constant"]
    end = depth[-1]["abs_rel"] / depth[-1]["abs_rel_constant"]
    lost = without[-1]["abs_rel"] / without[-1]["abs_rel_constant"]
    same = all(depth[-1][key] == last[key] for key in ("epe", "rotation", "direction"))
    return [
        Claim(
            "stage 1, without labels: within 30 minutes the end-point error falls below half of that of zero flow",
            f"zero flow {zero:.3f} px; {_at(first)}, {_at(half) if half else 'never below half'}, {_at(last)}",
            half is not None and half["seconds"] < 30 * 60,
        ),
        Claim(
            "and is still falling",
            f"{late['epe']:.3f} px after three quarters, {last['epe']:.3f} px at the end",
            last["epe"] < late["epe"],
        ),
        Claim(
            "stage 2: within 20 minutes depth beats the best constant depth by a clear margin (a fifth)",
            ", ".join(
                f"AbsRel {row['abs_rel']:.3f} after {(row['seconds'] - last['seconds']) / 60:.0f} min"
                for row in (depth[0], in_time[-1], depth[-1])
            )
            + f"; constant {depth[-1]['abs_rel_constant']:.3f}; scaled by the median",
            gain < 0.8 and in_time[-1]["seconds"] - last["seconds"] < 20 * 60,
        ),
        Claim(
            "its pose errors are those of the flow, which is frozen",
            f"rotation {last['rotation']:.3f} deg and {depth[-1]['rotation']:.3f} deg,"
            f" direction {last['direction']:.2f} deg and {depth[-1]['direction']:.2f} deg",
            same,
        ),
        Claim(
            "stage 3 lowers the flow error of stage 1",
            f"{last['epe']:.3f} -> {joint[-1]['epe']:.3f} px (flow alone, as long: {control[-1]['epe']:.3f} px)",
            joint[-1]["epe"] < last["epe"],
        ),
        Claim(
            "without L_d depth does not converge",
            f"AbsRel {without[-1]['abs_rel']:.3f}, that is {lost:.2f} of a constant depth, with L_d {end:.2f}",
            lost > 0.95,
        ),
    ]


def _at(row: Row) -> str:
    return f"{row['epe']:.3f} px after {row['seconds'] / 60:.0f} min"


def draw(out: Path) -> None:
    """The curves of all runs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    curves: list[tuple[str, str, str]] = [("main", "flow", "stage 1"), ("main", "joint", "stage 3")]
    for run, stage, label in [*curves, ("control", "flow", "flow alone, as long as stage 3")]:
        rows = figures(out / run, stage)
        offset = figures(out / "main", "depth")[-1]["step"] if run == "control" else 0
        left.plot([r["step"] + offset for r in rows], [r["epe"] for r in rows], marker=".", label=label)
    left.axhline(rows[0]["epe_zero"], color="grey", label="zero flow")
    left.axhline(rows[0]["epe_zero"] / 2, color="grey", linestyle=":", label="half of it")
    left.set(xlabel="step, over all stages", ylabel="end-point error, px", ylim=(0, None))
    begin = figures(out / "main", "flow")[-1]["step"]
    for run, label in (("main", "with L_d"), ("no_ld", "without L_d")):
        rows = figures(out / run, "depth")
        offset = begin if run == "main" else 0
        right.plot([r["step"] - offset for r in rows], [r["abs_rel"] for r in rows], marker=".", label=label)
    right.axhline(rows[0]["abs_rel_constant"], color="grey", label="best constant depth")
    right.set(xlabel="step of stage 2", ylabel="AbsRel, scaled by the median", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out / "curves.png", dpi=110)


def report(out: Path, claims: list[Claim]) -> str:
    """The report as Markdown; also written to the folder, with the figures as JSON."""
    config = load_settings(TrainConfig(), CONFIG)
    ends = {"main": "joint", "no_ld": "depth", "control": "flow"}
    minutes = {run: figures(out / run, stage)[-1]["seconds"] / 60 for run, stage in ends.items()}
    stages = ", ".join(f"{name} {stage.steps} steps" for name, stage in config.stages.listed())
    width, height = config.data.size
    lines = [
        f"Size {width}x{height}, batch {config.batch_size}, {choose_training_precision(config)}, {stages}.",
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}.",
        "Minutes: " + ", ".join(f"{run} {value:.0f}" for run, value in minutes.items()) + ".",
        "",
        "| claim | figures | |",
        "|---|---|---|",
        *(f"| {claim.text} | {claim.figures} | {'holds' if claim.holds else 'FAILS'} |" for claim in claims),
    ]
    text = "\n".join(lines) + "\n"
    (out / "report.md").write_text(text)
    entries = [vars(claim) for claim in claims]
    (out / "report.json").write_text(json.dumps({"minutes": minutes, "claims": entries}, indent=2) + "\n")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/prove_learning"))
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    out: Path = args.out
    if not args.report:
        joint = load_settings(TrainConfig(), CONFIG).stages.joint
        assert joint is not None
        start = [f"init={out / 'main' / 'flow.safetensors'}", "stages.joint=null"]
        prolonged = [f"stages.flow.{key}={getattr(joint, key)}" for key in ("steps", "lr", "lr_end")]
        runs = {
            "main": [],
            "no_ld": [*start, "stages.flow=null", "stages.depth.losses.triangulation=0"],
            "control": [*start, "stages.depth=null", *prolonged],
        }
        for name, overrides in runs.items():
            if not Trainer(load_settings(TrainConfig(), CONFIG, overrides), out / name).run().finished:
                print("stopped; the same command goes on")
                return 3
    claims = judge(out)
    print(report(out, claims))
    draw(out)
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
