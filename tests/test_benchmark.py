"""The benchmark runs, and its figures belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trianflow.benchmark import Benchmark, Timing, _gflop, run_benchmark
from trianflow.cli import main
from trianflow.flow.pwc import PWCNet
from trianflow.weights import save_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "random.safetensors", PWCNet(), None, {"name": "random"})
    return tmp_path / "random.safetensors"


def test_work_is_counted() -> None:
    """Two 3x3 convolutions of the first level of the pyramid by hand, and four times the pixels are four times that."""
    net = PWCNet()
    first, second = net.pyramid.get_submodule("conv1"), net.pyramid.get_submodule("conv2")
    by_hand = 2 * 32 * 64 * (9 * 3 * 16 + 9 * 16 * 16) / 1e9
    assert _gflop(lambda x: second(first(x)), 1, (128, 64)) == pytest.approx(by_hand)
    assert _gflop(net, 2, (256, 128)) == pytest.approx(4 * _gflop(net, 2, (128, 64)))


def test_share_of_the_peak() -> None:
    result = Benchmark((64, 64), 1, "cpu", "float32", peak=200.0)
    assert result.share_of_peak(Timing("x", 100.0, 10.0)) == pytest.approx(0.5)
    assert result.share_of_peak(Timing("x", 100.0)) is None


def test_everything_is_timed(weights: Path) -> None:
    result = run_benchmark((128, 64), str(weights), repeats=1)
    assert len(result.timings) == 6
    assert all(timing.milliseconds > 0 for timing in result.timings)
    assert result.peak > 1
    assert sum(result.statuses.values()) == 24
    assert result.megabytes > 50


def test_command(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--weights", str(weights), "--size", "128", "64", "--repeats", "1", "--no-training"]
    assert main(words) == 0
    assert "% of the peak" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == [128, 64]
    assert main(["bench", "--size", "32", "32"]) == 2
    assert "64 pixels" in capsys.readouterr().err
