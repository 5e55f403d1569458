"""Put trained weights into the repository: float16 safetensors, card, and an entry of the manifest.

python tools/release/publish.py runs/release/RUN/flow_best.safetensors default --description "..." --licence "..."
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from trianflow.weights import load_weights, save_weights

ASSETS = Path(__file__).parents[2] / "assets" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file with its card")
    parser.add_argument("name", help="under which `--weights NAME` finds them")
    parser.add_argument("--description", required=True, help="what they are good for, and how they were trained")
    parser.add_argument("--licence", required=True, help="what the training data allows")
    args = parser.parse_args()
    weights = load_weights(args.weights).rgb()
    ASSETS.mkdir(parents=True, exist_ok=True)
    file = ASSETS / f"{args.name}.safetensors"
    card = weights.card | {"name": args.name, "description": args.description, "licence": args.licence}
    card = save_weights(file, weights.flow, weights.depth, card, torch.float16)
    path = ASSETS / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    manifest[args.name] = {"file": file.name, "sha256": card["sha256"]}
    path.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
