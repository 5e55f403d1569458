"""Train the bundled weights: the queue of runs in queue/, in slices that can be stopped anywhere and go on.

    python tools/release/train.py --minutes 9 [--pieces DIR] [key=value ...]

Takes the first run of the queue that is not done, goes on with it for so many minutes, and with the next where there is
time left. State lies in runs/release/RUN. With --pieces, the weights so far are also left in DIR in files of less than
16 MiB, for machines that hand back small files only; `--join DIR FILE` puts them together again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from trianflow.config import load_settings
from trianflow.training.config import TrainConfig
from trianflow.training.loop import Trainer
from trianflow.weights import load_weights, save_weights

HERE = Path(__file__).parent
WORK = Path("runs/release")
PIECE = 15 * 2**20  # bytes
LEAST = 0.5  # minutes that are worth a start


def slices(minutes: float, overrides: list[str]) -> Path | None:
    """Work on the queue for so many minutes; the weights of the run that was trained last."""
    deadline = time.monotonic() + 60 * minutes
    newest = None
    for file in sorted((HERE / "queue").glob("*.yaml")):
        out = WORK / file.stem
        left = (deadline - time.monotonic()) / 60
        if (out / "done").exists():
            continue
        if left < LEAST:
            break
        outcome = Trainer(load_settings(TrainConfig(), file, overrides), out, minutes=left).run()
        weights = load_weights(max(out.glob("*.safetensors"), key=lambda path: path.stat().st_mtime))
        newest = WORK / f"{file.stem}.safetensors"
        save_weights(newest, weights.flow, weights.depth, weights.card | {"name": file.stem}, torch.float16)
        print(f"{file.stem}: {outcome.steps} steps, {'done' if outcome.finished else 'to be continued'}", flush=True)
        if not outcome.finished:
            break
        (out / "done").touch()
    return newest


def split(file: Path, folder: Path) -> None:
    """Cut a file, and the card beside it, into pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    content = file.read_bytes()
    for number, begin in enumerate(range(0, len(content), PIECE)):
        (folder / f"{file.name}.{number:02d}").write_bytes(content[begin : begin + PIECE])
    card = file.with_suffix(".json")
    (folder / card.name).write_bytes(card.read_bytes())


def join(folder: Path, file: Path) -> None:
    """Put the pieces of a weight file together, with its card, and check them."""
    pieces = sorted(folder.glob("*.safetensors.[0-9][0-9]"))
    if not pieces:
        sys.exit(f"{folder}: no pieces of a weight file")
    file.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    file.with_suffix(".json").write_bytes(pieces[0].with_suffix("").with_suffix(".json").read_bytes())
    load_weights(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--pieces", type=Path, help="leave the weights there, in pieces")
    parser.add_argument(
        "--join", type=Path, nargs=2, metavar=("DIR", "FILE"), help="put pieces together"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    if args.join:
        join(*args.join)
        return
    newest = slices(args.minutes, args.overrides)
    if newest is None:
        print("the queue is done")
    elif args.pieces:
        split(newest, args.pieces)


if __name__ == "__main__":
    main()
