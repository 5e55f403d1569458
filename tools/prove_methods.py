"""What the papers say of their methods, shown by a comparison: the same data and the same time for each.

    python tools/prove_methods.py            # over two hours on two cores; goes on where it was stopped
    python tools/prove_methods.py --report   # only the report of what is there

Trains the methods of configs/compare/ that are named below with `trianflow compare`, on synthetic streets with movers
and on real driving. Needs the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed
non-commercially. Leaves in `--out` (default out/prove_methods) what `trianflow compare` leaves (learning.png shows how
depth and its scale go, poses.png the errors by the distance of the frames), and report.md; prints the report, and exits
with 1 where a claim does not hold, with 3 where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from trianflow.cli import main as trianflow
from trianflow.training.methods import Method, read_methods

ROOT = Path(__file__).parent.parent
METHODS = (
    *("ddvo_baseline", "ddvo_posecnn", "monodepth2_average", "monodepth2"),
    *("instadm_rigid", "instadm", "posenet", "trianflow"),
)
POSE_NETWORKS = ("posenet", "ddvo_posecnn", "monodepth2", "instadm_rigid")
# A scale that shrinks by more than this share in the second half of the training does not settle. Normalised, the scale
# of the network itself has no say in its losses: it may go anywhere at first, but for the least that it can say, 0.01.
_SHRINKS, _LEAST = 0.15, 0.1
_FAR_LESS = 0.5  # of the growth of the error of PoseNet, the baseline of the paper


@dataclass(frozen=True)
class Claim:
    """A statement, the figures behind it, and whether it holds."""

    text: str
    figures: str
    holds: bool


def settings(data: Path) -> list[str]:
    """The data of the comparison, as words of the command line."""
    town, drive = data / "train_malaga_urban_07", data / "kitti_odom_07_000-159"
    return [
        # The recorded drives have 20 images a second, of which every second is taken, and 10.
        f"data.train=[{{drives: 600, seed: 1, movers: 4, fps: 20}}, {{path: {town}, end: 1200, stride: 2}}]",
        f"data.val=[{{drives: 160, seed: 900, movers: 4, fps: 20}}, {{path: {drive}, poses: {drive / 'poses.txt'}}}]",
        "val_pairs=160",
        "val_every=300",
        "save_every=200",
    ]


def growth_of_second_half(curve: Sequence[tuple[float, float]]) -> float:
    """By what share a positive figure grows over the second half of its curve, by the line through its logarithms.

    NaN for less than three points there.
    """
    late = [(x, math.log(y)) for x, y in curve if x >= curve[-1][0] / 2]
    if len(late) < 3:
        return math.nan
    x, y = zip(*late)
    return math.exp(linear_regression(x, y).slope * curve[-1][0] / 2) - 1


def judge(methods: Mapping[str, Method], figures: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What the figures of all methods, by their names, say of the claims."""
    from trianflow.training.compare import learning_curve
    from trianflow.training.held_out import STRIDES

    def compared(key: str, *names: str) -> str:
        return ", ".join(f"{name} {figures[name][key]:.3f}" for name in names)

    def less(key: str, better: str, worse: str) -> bool:
        return figures[better][key] < figures[worse][key]

    curves = {name: learning_curve(methods[name], "inverse_depth") for name in METHODS[:2]}
    growth = {name: growth_of_second_half(curve) for name, curve in curves.items()}
    claims = [
        Claim(
            "depth normalisation prevents the collapse of scale (DDVO, figure 3)",
            "mean inverse depth, first and last validation, and its growth over the second half of the training: "
            + ", ".join(
                f"{name} {x[0][1]:.3g} -> {x[-1][1]:.3g}, {100 * growth[name]:+.0f} %" if x else f"{name} unknown"
                for name, x in curves.items()
            )
            + f"; AbsRel {compared('abs_rel', *METHODS[:2])}",
            growth[METHODS[0]] < -_SHRINKS
            and growth[METHODS[1]] > -_SHRINKS
            and curves[METHODS[1]][-1][1] > _LEAST
            and less("abs_rel", METHODS[1], METHODS[0]),
        ),
        Claim(
            "minimum and auto-mask beat the average where things hide and move (Monodepth2)",
            f"AbsRel {compared('abs_rel', 'monodepth2', 'monodepth2_average')};"
            f" of movers {compared('object_abs_rel', 'monodepth2', 'monodepth2_average')}",
            less("abs_rel", "monodepth2", "monodepth2_average"),
        ),
        Claim(
            "Insta-DM beats the rigid system on moving objects",
            f"AbsRel of movers {compared('object_abs_rel', 'instadm', 'instadm_rigid')};"
            f" their motion, px {compared('object_epe', 'instadm', 'instadm_rigid')}",
            all(less(key, "instadm", "instadm_rigid") for key in ("object_abs_rel", "object_epe")),
        ),
    ]
    for key, words in (("rotation", "rotation error, degrees"), ("translation", "translation error, share")):
        rows = {
            name: [figures[name][f"{key}_{stride}"] for stride in STRIDES] for name in ("trianflow", *POSE_NETWORKS)
        }
        growth = {name: row[-1] - row[0] for name, row in rows.items()}
        claims.append(
            Claim(
                f"TrianFlow's {words.split(',')[0]} grows far less with the speed than PoseNet's, and stays below"
                " that of any pose network",
                f"{words}, at strides {STRIDES}: "
                + ", ".join(f"{name} " + " ".join(f"{x:.3f}" for x in row) for name, row in rows.items()),
                growth["trianflow"] < _FAR_LESS * growth["posenet"]
                and rows["trianflow"][-1] < min(rows[n][-1] for n in POSE_NETWORKS),
            )
        )
    return claims


def report(out: Path, claims: Sequence[Claim], methods: Sequence[Method]) -> str:
    """The report as Markdown, with what each method has trained, also written to the folder."""
    from trianflow.training.compare import spent

    rows = [f"| {claim.text} | {claim.figures} | {'holds' if claim.holds else 'FAILS'} |" for claim in claims]
    table = (out / "table.txt").read_text()
    trained = {method.name: spent(method) for method in methods}
    steps = ", ".join(f"{name} {x.steps} in {x.minutes:.1f} minutes" for name, x in trained.items())
    lines = ["| claim | figures | |", "|---|---|---|", *rows, "", f"Steps of training: {steps}.", ""]
    text = "\n".join([*lines, "```", table.rstrip(), "```", ""])
    (out / "report.md").write_text(text)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/prove_methods"))
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, for each method")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    data = Path(os.environ.get("TRIANFLOW_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"{data}: not found; set TRIANFLOW_DATA to the folder that has the sequences")
    files = [str(ROOT / "configs" / "compare" / f"{name}.yaml") for name in METHODS]
    words = settings(data)
    if not args.report:
        code = trianflow(["compare", *files, "--minutes", str(args.minutes), "--out", str(args.out), *words])
        if code not in (0, 1):  # a method that failed leaves the others to be looked at
            return code
    from trianflow.training.compare import read_score

    methods = {method.name: method for method in read_methods(files, args.out, words)}
    scores = {name: read_score(method) for name, method in methods.items()}
    missing = [name for name, score in scores.items() if score is None]
    if missing:
        sys.exit(f"{args.out}: not scored yet: {', '.join(missing)}")
    claims = judge(methods, {name: score.figures() for name, score in scores.items() if score is not None})
    print(report(args.out, claims, list(methods.values())))
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
