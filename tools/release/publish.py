"""Put trained weights into the repository: float16 safetensors, card, and an entry of the manifest.

    python tools/release/publish.py runs/release/RUN.safetensors NAME --description "..." --licence "..." --limits "..."
        [--depth runs/release/RUN.safetensors]

The card gets the runs and the commit of their recipe, and the figures that evaluate.py measured of these very files.
With --depth the network of depth is that of another run; steps, size and metrics stand on the card by network then. All
bundled weights together may take 60 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from trianflow.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets" / "weights"
STATE = Path("runs/evaluation/2")  # of evaluate.py
LARGEST = 60_000_000  # bytes of all bundled weights together


def figures_of(sha256: str) -> dict[str, object]:
    """What was measured of a file in full: row or `depth` to part to figures."""
    files = sorted(STATE.glob(f"*-{sha256[:12]}-full.json"))
    return {file.name.split("-")[0]: json.loads(file.read_text()) for file in files}


def card_of(flow: dict[str, Any], depth: dict[str, Any]) -> dict[str, Any]:
    """The card of two networks that were trained apart: what differs is told by network."""
    cards = {"flow": flow, "depth": depth}
    told: dict[str, Any] = {}
    for key in ("steps", "size", "metrics"):
        told[key] = {name: card[key] for name, card in cards.items() if card.get(key) is not None}
    listed = [card.get("data", []) for card in cards.values()]
    data = {name for names in listed for name in ([names] if isinstance(names, str) else names)}
    return flow | depth | told | {"data": sorted(data)}


def commit() -> str:
    """Of the recipe; a plus behind it where files of the recipe have been changed since."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "tools/release"], capture_output=True, text=True, check=True
    )
    return head + ("+" if changed.stdout.strip() else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file with its card")
    parser.add_argument("--depth", metavar="FILE", help="a .safetensors file with its card, whose depth goes with it")
    parser.add_argument("name", help="under which `--weights NAME` finds them")
    parser.add_argument("--description", required=True, help="what they are good for, and how they were trained")
    parser.add_argument("--licence", required=True, help="what the training data allows")
    parser.add_argument("--limits", required=True, help="what they are not good for")
    args = parser.parse_args()
    weights = load_weights(args.weights).rgb()
    depth, own, runs = weights.depth, weights.card, {"run": Path(args.weights).stem}
    figures = figures_of(str(own.get("sha256")))
    if args.depth:
        other = load_weights(args.depth).rgb()
        if weights.flow is None or other.depth is None:
            parser.error(f"with --depth, {args.weights} has to hold a flow network and {args.depth} one of depth")
        depth, own = other.depth, card_of(own, other.card)
        runs |= {"depth_run": Path(args.depth).stem}
        figures |= figures_of(str(other.card.get("sha256")))
    ASSETS.mkdir(parents=True, exist_ok=True)
    file = ASSETS / f"{args.name}.safetensors"
    told = {key: getattr(args, key) for key in ("name", "description", "licence", "limits")}
    card = own | told | {"recipe": runs | {"commit": commit()}, "figures": figures}
    path = ASSETS / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    others = sum((ASSETS / entry["file"]).stat().st_size for name, entry in manifest.items() if name != args.name)
    with tempfile.TemporaryDirectory() as trial:
        save_weights(Path(trial) / file.name, weights.flow, depth, card, torch.float16)
        size = (Path(trial) / file.name).stat().st_size
    if others + size > LARGEST:
        parser.error(f"all bundled weights would have {(others + size) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}")
    card = save_weights(file, weights.flow, depth, card, torch.float16)
    manifest[args.name] = {"file": file.name, "sha256": card["sha256"]}
    path.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{file}: {size / 1e6:.1f} MB, all bundled weights {(others + size) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
