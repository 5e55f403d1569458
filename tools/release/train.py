"""Train the bundled weights: the queue of runs in queue/, in slices that can be stopped anywhere and go on.

    python tools/release/train.py --minutes 9 [--run NAME] [--pieces DIR] [key=value ...]

Takes the first run of the queue that is not done, or the one that is named, goes on with it for so many minutes, and
with the next where there is time left. State lies in runs/release/RUN. With --pieces, the weights so far and the
checkpoint are also left in DIR as files of less than 16 MiB; `--join DIR FILE` puts the pieces of FILE's name together.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from trianflow.config import load_settings
from trianflow.errors import TrianflowError
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.config import TrainConfig
from trianflow.training.loop import Trainer
from trianflow.training.run_folder import LAST
from trianflow.weights import load_weights, save_weights

HERE = Path(__file__).parent
WORK = Path("runs/release")
PIECE = 15 * 2**20  # bytes
LEAST = 0.5  # minutes that are worth a start


def queue() -> list[Path]:
    """The configurations of all runs, in the order of the numbers that their names begin with."""
    return sorted((HERE / "queue").glob("*.yaml"), key=lambda file: int(file.stem.split("_")[0]))


def slices(minutes: float, overrides: list[str], first: str = "") -> Path | None:
    """Work on the queue, from the run called `first` on, for so many minutes; the weights of the last run trained."""
    deadline = time.monotonic() + 60 * minutes
    newest, runs = None, {file.stem: file for file in queue()}
    if first and first not in runs:
        sys.exit(f"no run '{first}' in the queue: take one of {', '.join(runs)}")
    for file in list(runs.values())[list(runs).index(first) if first else 0 :]:
        out = WORK / file.stem
        left = (deadline - time.monotonic()) / 60
        if (out / "done").exists():
            continue
        if left < LEAST:
            break
        try:
            outcome = Trainer(load_settings(TrainConfig(), file, overrides), out, minutes=left).run()
        except TrianflowError as error:  # what was trained before it is still to be told and cut into pieces
            print(f"{file.stem}: {error}", file=sys.stderr)
            if newest is None:
                sys.exit(1)
            break
        weights = load_weights(max(out.glob("*.safetensors"), key=lambda path: path.stat().st_mtime))
        newest = WORK / f"{file.stem}.safetensors"
        save_weights(newest, weights.flow, weights.depth, weights.card | {"name": file.stem}, torch.float16)
        print(f"{file.stem}: {outcome.steps} steps, {'done' if outcome.finished else 'to be continued'}", flush=True)
        if not outcome.finished:
            break
        (out / "done").touch()
    return newest


def split(file: Path, folder: Path) -> None:
    """Cut a file into numbered pieces; a weight file's card goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{file.name}.[0-9][0-9]"):
        old.unlink()
    with open(file, "rb") as content:
        for number, piece in enumerate(iter(lambda: content.read(PIECE), b"")):
            (folder / f"{file.name}.{number:02d}").write_bytes(piece)
    card = file.with_suffix(".json")
    if file.suffix == ".safetensors":
        (folder / card.name).write_bytes(card.read_bytes())


def join(folder: Path, file: Path) -> None:
    """Put the pieces of a file together, a weight file with its card, and check them."""
    pieces = sorted(folder.glob(f"{file.name}.[0-9][0-9]"))
    if not pieces:
        sys.exit(f"{folder}: no pieces of {file.name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    if file.suffix == ".safetensors":
        file.with_suffix(".json").write_bytes((folder / file.name).with_suffix(".json").read_bytes())
        load_weights(file)
    else:
        Checkpoint.load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--run", default="", metavar="NAME", help="of the queue, to begin with: where others are not")
    parser.add_argument("--pieces", type=Path, help="leave weights and checkpoint there, in pieces")
    parser.add_argument("--join", type=Path, nargs=2, metavar=("DIR", "FILE"), help="put pieces together")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    if args.join:
        join(*args.join)
        return
    newest = slices(args.minutes, args.overrides, args.run)
    if newest is None:
        print("nothing was trained: the queue is done, or the time too short")
    elif args.pieces:
        split(newest, args.pieces)
        split(WORK / newest.stem / LAST, args.pieces)


if __name__ == "__main__":
    main()
