"""Measure what the masks of Multi-mask and the alignment of DDVO cost at a given size: medians of wall time.

    python tools/bench_methods.py [--size 832x256] [--threads 2] [--runs 15]

The masks are those of both views, three rounds; the alignment is of a grey pair from the identity, without gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.geometry.camera import Camera
from trianflow.losses.masks import multi_mask
from trianflow.pose.direct import align


def street(width: int, height: int) -> RenderedPair:
    """Two frames of a drive."""
    camera, scene = Camera.from_fov(width, height, 80.0), make_scene("street", 1, length=40.0)
    T_wc = camera_path("driving", scene, 2, 10.0, 1)
    return render_pairs([scene], T_wc[None], torch.tensor([[0, 0.1]]), camera.K()[None], height, width)


def median_ms(job: Callable[[], object], runs: int) -> float:
    """Milliseconds of wall time, after a warm-up."""
    job()
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="832x256", help="width x height")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    width, height = map(int, args.size.split("x"))
    pair = street(width, height)
    T_ba, K = pair.T_ba.float(), pair.K.float()
    a, b = (image.mean(1, keepdim=True) for image in (pair.image_a, pair.image_b))
    where = f"at {args.size} on {args.threads} threads"
    masks = median_ms(lambda: multi_mask(pair.depth_a, pair.depth_b, T_ba, K), args.runs)
    print(f"masks of both views, three rounds: {masks:.1f} ms {where}", flush=True)
    with torch.no_grad():
        alignment = median_ms(lambda: align(a, b, pair.depth_a, K), args.runs)
    print(f"alignment from the identity: {alignment:.0f} ms {where}")


if __name__ == "__main__":
    main()
