"""Device, precision, threads, and the sizes that networks work at."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import torch

from trianflow import inference
from trianflow.errors import UsageError
from trianflow.inference import (
    choose_device,
    choose_precision,
    network_input,
    prepared,
    resize_map,
    running,
    size_of,
    working_size,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1241, 376), (832, 256)),  # KITTI, the size of the paper
        ((1242, 375), (832, 256)),
        ((640, 480), (512, 384)),
        ((480, 640), (384, 512)),
        ((832, 256), (832, 256)),
        ((500, 300), (500, 300)),  # smaller: as it is
        ((15, 17), (15, 17)),
        ((4000, 100), (2944, 73)),  # no multiple of 64 is close to 73
        ((100, 4000), (73, 2944)),
        ((2200, 97), (2176, 97)),  # 128 would enlarge
    ],
)
def test_working_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*size, area=832 * 256) == expected


def test_working_size_of_many() -> None:
    rng = np.random.default_rng(0)
    for width, height in rng.integers(16, 4000, (500, 2)).tolist():
        w, h = working_size(width, height, 832 * 256)
        assert 1 <= w <= width
        assert 1 <= h <= height
        assert w * h <= 1.21 * 832 * 256
        if width * height > 832 * 256:
            assert w * h >= 0.8 * 832 * 256
            assert 0.8 < (w / h) / (width / height) < 1.25


def test_input() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    x = network_input(image, (40, 30), CPU, torch.float32)
    assert x.shape == (1, 3, 30, 40)
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(x[0].permute(1, 2, 0).numpy(), image / 255, atol=1e-6)
    grey = network_input(image[..., 0], (40, 30), CPU, torch.float32)
    np.testing.assert_allclose(grey[0].numpy(), np.stack([image[..., 0]] * 3) / 255, atol=1e-6)
    half = network_input(image, (20, 15), CPU, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    mean = image.reshape(15, 2, 20, 2, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(half.float()[0].permute(1, 2, 0).numpy(), mean, atol=6e-3)
    flipped = network_input(image[:, ::-1], (40, 30), CPU, torch.float32)
    torch.testing.assert_close(flipped, x.flip(3))


def test_resize_is_that_of_opencv_and_keeps_a_ramp() -> None:
    x = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    assert resize_map(x, 12, 20) is x
    large = resize_map(x, 37, 50)
    expected = cv2.resize(x[1].permute(1, 2, 0).numpy(), (50, 37), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(large[1].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    # a map of positions stays one: u' = (u + 0.5) s - 0.5
    ramp = torch.arange(20.0).expand(1, 1, 12, 20)
    u = (torch.arange(60.0) + 0.5) / 3 - 0.5
    torch.testing.assert_close(resize_map(ramp, 36, 60)[0, 0, 5, 3:-3], u[3:-3])


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"no {name} device here: take --device cpu"):
            choose_device(name)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_precision_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer, raising=False)
        assert choose_precision(CPU) == dtype
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert choose_precision(CPU) == torch.float32
    assert choose_precision(torch.device("mps")) == torch.float32


def test_prepared_network() -> None:
    network = prepared(torch.nn.Conv2d(3, 8, 3).train(), CPU, torch.bfloat16)
    assert not network.training
    assert network.weight.dtype == torch.bfloat16
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.weight.requires_grad


def test_prepared_network_keeps_what_asks_for_it_in_full_precision() -> None:
    """With every digit of the weights."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 1, 3))
    network[1].full_precision = True
    weights = [layer.weight.detach().clone() for layer in network]
    for _ in range(2):
        assert prepared(network, CPU, torch.bfloat16) is network
        assert [layer.weight.dtype for layer in network] == [torch.bfloat16, torch.float32]
        assert network[1].bias.dtype == torch.float32
        assert torch.equal(network[0].weight, weights[0].bfloat16())
        assert torch.equal(network[1].weight, weights[1])
        assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
        assert not network[1].weight.requires_grad


def test_threads_belong_to_the_thread_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores inside, in any thread; and what was outside before, though the inside ends with an error."""
    monkeypatch.setattr(inference, "THREADS", 3)
    before = torch.get_num_threads()
    seen: dict[str, tuple[int, bool]] = {}

    def work() -> None:
        with running():
            seen["inside"] = torch.get_num_threads(), torch.is_inference_mode_enabled()
        seen["after"] = torch.get_num_threads(), torch.is_inference_mode_enabled()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == {"inside": (3, True), "after": (before, False)}
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError), running():
        raise RuntimeError(torch.get_num_threads())
    assert torch.get_num_threads() == before


def test_size_of_a_card() -> None:
    assert size_of({}, "flow") == (832, 256)
    assert size_of({"size": [640, 480]}, "flow") == (640, 480)
    apart = {"size": {"flow": [384, 192], "depth": [416, 128]}}
    assert [size_of(apart, name) for name in ("flow", "depth", "pose")] == [(384, 192), (416, 128), (832, 256)]
    for wrong in (5, [1], "big", [1, 2, 3], None):
        with pytest.raises(UsageError, match=r"it has to be \[width, height\]"):
            size_of({"size": wrong}, "depth")


_FAULTS = """
import resource, torch
from trianflow.inference import keep_freed_memory
keep_freed_memory()
def work():
    kept = [torch.ones(2_000_000) for _ in range(20)]  # 160 MB
for _ in range(4):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_freed_memory_is_used_again_without_asking_the_system():
    run = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, check=True)
    assert int(run.stdout) < 2000  # else most often 175,000: the pages of 5 * 160 MB
