"""How fast the networks, a step of odometry and a step of training are on this machine."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from trianflow.assets import find_asset
from trianflow.config import OdometryConfig
from trianflow.data.calibration import read_calibration
from trianflow.data.frames import Frame, open_frames
from trianflow.data.pairs.batch import PairBatch
from trianflow.depth.learned import LearnedDepth
from trianflow.depth.network import DepthNet
from trianflow.flow.learned import LearnedFlow
from trianflow.flow.pwc import PWCNet
from trianflow.geometry.camera import Camera
from trianflow.inference import choose_device, choose_precision, keep_freed_memory
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.systems.config import LossWeights
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import Stages
from trianflow.weights import load_weights

_FRAMES = 24


@dataclass(frozen=True)
class Timing:
    """One line of the table: median time, and where it is known the work in GFLOP."""

    name: str
    milliseconds: float
    gflop: float | None = None


@dataclass
class Benchmark:
    """What was measured.

    Attributes:
        size: width and height of the images, pixels.
        threads: of the networks.
        device, precision: of the networks.
        peak: of a matrix product in this precision, GFLOP/s.
        timings: the table.
        statuses: of the odometry steps, to see that the geometry was not idle.
        megabytes: most memory of the process after the odometry, before training.
    """

    size: tuple[int, int]
    threads: int
    device: str
    precision: str
    peak: float
    timings: list[Timing] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    megabytes: float = 0.0

    def share_of_peak(self, timing: Timing) -> float | None:
        """Of the processor's peak, that a network reaches: in [0, 1]; None for other parts."""
        return None if timing.gflop is None else timing.gflop / (timing.milliseconds / 1e3) / self.peak


def run_benchmark(
    size: tuple[int, int] = (832, 256), weights: str = "driving", repeats: int = 7, training: bool = True
) -> Benchmark:
    """Time everything once after a warm-up, `repeats` times.

    Args:
        size: width and height of the images; those of the bundled clip are resized.
        weights: whose flow network is timed; depth too where they hold one, else with random weights.
        repeats: medians are over so many runs.
        training: time training steps too.

    Raises:
        TrianflowError: no such weights, or no bundled clip.
    """
    device = choose_device("auto")
    dtype = choose_precision(device)
    loaded = load_weights(weights).rgb()
    frames, camera = _frames(size)
    flow = LearnedFlow(loaded.flow or PWCNet(), "auto", size, size)
    depth = LearnedDepth(loaded.depth or DepthNet(), "auto", size, size)
    result = Benchmark(
        size, torch.get_num_threads(), str(device), str(dtype).removeprefix("torch."), _peak(device, dtype)
    )

    image = frames[0].image
    assert image is not None
    a, b = flow.encode(image), flow.encode(image)
    parts: list[tuple[str, Callable[[], object], float]] = [
        ("flow: features of an image", lambda: flow.encode(image), _gflop(PWCNet().encode, 1, size)),
        (
            "flow: both directions",
            lambda: flow.flow(a, b),
            _gflop(PWCNet(), 2, size) - 2 * _gflop(PWCNet().encode, 1, size),
        ),
        ("depth of an image", lambda: depth.depth(image), _gflop(DepthNet(), 1, size)),
    ]
    for name, part, gflop in parts:
        result.timings.append(Timing(name, _median_ms(part, repeats, device), gflop))

    config = OdometryConfig(flow="pwc", scale="depth", weights=weights)
    odometry = VisualOdometry(camera, config, flow, depth)
    steps = [odometry.track(frame) for frame in frames]
    result.timings.append(Timing("odometry step", statistics.median(step.milliseconds for step in steps[2:])))
    result.statuses = dict(Counter(str(step.status) for step in steps))
    result.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )

    if training:
        if device.type == "cpu":
            keep_freed_memory()
        system = TrianFlow().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if loaded.flow is not None:
            system.flow.load_state_dict(load_weights(weights).rgb().flow.state_dict())  # type: ignore[union-attr]
        batch = _pair(frames, camera).to(device)
        stages = dict(Stages().listed())
        for name, stage in (("training step, flow", "flow"), ("training step, flow and depth", "joint")):
            step = _training_step(system, batch, stages[stage].losses, dtype)
            result.timings.append(Timing(name, _median_ms(step, repeats, device)))
    return result


def _frames(size: tuple[int, int]) -> tuple[list[Frame], Camera]:
    """The first frames of the bundled clip at another size, with the camera to it."""
    camera = read_calibration(find_asset("demo_calib.yaml")).resized(*size)
    frames = []
    for frame in islice(open_frames(find_asset("demo.mp4")), _FRAMES):
        assert frame.image is not None
        image = cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)
        frames.append(Frame(frame.index, frame.time, image, frame.name))
    return frames, camera


def _pair(frames: list[Frame], camera: Camera) -> PairBatch:
    images = [np.ascontiguousarray(frames[i].image) for i in (0, 1)]
    a, b = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images)
    return PairBatch(a, b, a, b, camera.K()[None], None, torch.zeros(1, dtype=torch.int64))


def _training_step(
    system: TrianFlow, batch: PairBatch, losses: LossWeights, dtype: torch.dtype
) -> Callable[[], object]:
    system.flow.requires_grad_(True)
    system.depth.requires_grad_(losses.need_depth)
    optimizer = torch.optim.Adam(p for p in system.parameters() if p.requires_grad)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(batch.image_a.device.type, dtype, enabled=dtype != torch.float32):
            total = system(batch, losses).total
        total.backward()
        optimizer.step()

    return step


def _median_ms(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def _gflop(network: Callable[..., object], images: int, size: tuple[int, int]) -> float:
    """Work of a network on images of this size, counted in its convolutions."""
    x = [torch.zeros(1, 3, size[1], size[0]) for _ in range(images)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*x)
    return counter.get_total_flops() / 1e9


def _peak(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product, the best of several."""
    n = 1536 if device.type == "cpu" else 8192
    a, b = torch.rand(n, n, device=device).to(dtype), torch.rand(n, n, device=device).to(dtype)
    best = 0.0
    with torch.inference_mode():
        for _ in range(12):
            begin = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * n**3 / (time.perf_counter() - begin) / 1e9)
    return best
