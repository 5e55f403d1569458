"""`trianflow weights`: list, inspect, verify and import the weights of the networks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from trianflow.errors import TrianflowError, UsageError

_IMPORT = """\
Make a weight file and its card of a checkpoint of the published implementation (stage 1: flow; stages 2 and 3:
flow and depth). Files of these names are replaced. The tensors stay as they are; the card notes that they take BGR
images, and whoever uses them turns the first layers. If tensors are missing or unknown, -v lists them all."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `weights` and what it does to the sub-commands of the main program."""
    parser = subparsers.add_parser("weights", help="list, inspect, verify and import the weights of the networks")
    actions = parser.add_subparsers(dest="weights_command", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the bundled weights")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = actions.add_parser("show", help="check one set of weights, and print its card and sizes")
    show.add_argument("weights", metavar="NAME|FILE", help="bundled weights, or a .safetensors file")
    verify = actions.add_parser("verify", help="check that weights are whole, and those of their cards")
    verify.add_argument(
        "weights", nargs="*", metavar="NAME|FILE", help="bundled weights or .safetensors files (default: all bundled)"
    )
    importing = actions.add_parser(
        "import",
        help="convert a published checkpoint",
        description=_IMPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    importing.add_argument("checkpoint", metavar="FILE.pth", help="checkpoint")
    importing.add_argument("--out", metavar="FILE.safetensors", help="weight file (default: beside the checkpoint)")
    importing.add_argument("--half", action="store_true", help="store 16-bit floats: half the size")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow weights`.

    Returns:
        0; every failure is an exception.

    Raises:
        TrianflowError: a file that cannot be read or written, or is not what it should be; of several to verify, after
            the last one.
        UsageError: an unknown name, or an option that cannot be right.
    """
    actions = {"list": _list, "show": _show, "verify": _verify, "import": _import}
    if args.weights_command not in actions:
        raise UsageError(f"weights has no action '{args.weights_command}'")
    actions[args.weights_command](args)
    return 0


def _list(args: argparse.Namespace) -> None:
    from trianflow.weights import list_weights

    found = list_weights()
    if args.json:
        out = [{**w.card, "name": w.name, "file": str(w.path)} for w in found]
        print(json.dumps(out, indent=2, ensure_ascii=False))
    elif not found:
        print("no weights are bundled; `trianflow weights import FILE.pth` makes some of a published checkpoint")
    width = max((len(w.name) for w in found), default=0)
    for w in found if not args.json else []:
        networks = " + ".join(w.card.get("networks", {}))
        print(f"{w.name:<{width}}  {networks:<12}  {w.card.get('description', '')}".rstrip())


def _show(args: argparse.Namespace) -> None:
    from trianflow.weights import load_weights

    weights = load_weights(args.weights)
    rows: dict[str, Any] = {"name": weights.name, **weights.card}
    for name, network in (("flow", weights.flow), ("depth", weights.depth), ("pose", weights.pose)):
        if network is not None:
            tensors, parameters = len(network.state_dict()), sum(p.numel() for p in network.parameters())
            rows[f"{name} network"] = f"{tensors} tensors, {parameters:,} parameters"
    width = max(map(len, rows))
    for key, value in rows.items():
        print(f"{key:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _verify(args: argparse.Namespace) -> None:
    from trianflow.weights import list_weights, load_weights

    names = args.weights or [entry.name for entry in list_weights()]
    damaged = []
    for name in names:
        try:
            weights = load_weights(name)
        except (TrianflowError, UsageError) as error:
            damaged.append(name)
            print(error, file=sys.stderr)
            continue
        if not args.quiet:
            networks = {"flow": weights.flow, "depth": weights.depth, "pose": weights.pose}
            held = " + ".join(kind for kind, network in networks.items() if network is not None)
            known = "sha256 as on its card" if "sha256" in weights.card else "no card to compare with"
            print(f"{name}: {held}, {known}")
    if damaged:
        raise TrianflowError(f"{len(damaged)} of {len(names)} weights are not whole: {', '.join(map(str, damaged))}")


def _import(args: argparse.Namespace) -> None:
    import torch

    from trianflow.checkpoint import CheckpointError
    from trianflow.weights import import_checkpoint, save_weights

    out = Path(args.out or Path(args.checkpoint).with_suffix(".safetensors"))
    try:
        flow, depth = import_checkpoint(args.checkpoint)
    except CheckpointError as e:
        if args.verbose:
            for group, keys in e.groups().items():
                for key in keys:
                    print(f"{group}: {key}", file=sys.stderr)
        raise
    name = Path(args.checkpoint).name
    card = {
        "description": f"imported from {name}",
        "data": "that of the checkpoint, unknown",
        "licence": "that of the checkpoint, unknown",
        "channels": "bgr",
    }
    saved = save_weights(out, flow, depth, card, torch.float16 if args.half else torch.float32)
    if not args.quiet:
        print(f"{out}: {' and '.join(saved['networks'])}, {out.stat().st_size / 1e6:.1f} MB")
