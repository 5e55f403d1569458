"""Runs as processes: killed at any moment, stopped by signals, shared by two; and what is imported."""

from __future__ import annotations

import csv
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from tests.training.small_runs import timeless, weights_of
from trianflow.data.pairs.sources import RawPair
from trianflow.training.sync_norm import SyncedBatchNorm, synchronize_norms

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {{size: [64, 64], train: [{{synthetic: 6}}], val: [{{synthetic: 2, seed: 1}}], cache: {cache}}}
batch_size: 2
workers: 0
log_every: 1
val_every: 2
save_every: 1
accelerator: cpu
precision: 32-true
system: {{geometry: {{matches: 300, min_points: 5}}}}
stages:
  flow: {{steps: {steps}}}
  depth: {{steps: {steps}, losses: {{depth_smooth: 0.1}}}}
  joint: {{steps: {steps}}}
"""


def command(config: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "trianflow", "train", str(config), "--out", str(out), *words]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def write_config(folder: Path, steps: int) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(CONFIG.format(cache=folder / "cache", steps=steps))
    return path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    config = write_config(tmp_path, 5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = run(*command(config, whole))
    assert done.returncode == 0, done.stderr
    chance = random.Random(0)
    kills = 0
    while kills < 10:
        process = subprocess.Popen(command(config, parts), env=environment(), stderr=subprocess.DEVNULL)
        begin = (parts / "last.ckpt").stat().st_mtime_ns if (parts / "last.ckpt").exists() else 0
        # at least one step further each time, and then at any moment: within a step, a save, an export
        while process.poll() is None:
            if (parts / "last.ckpt").exists() and (parts / "last.ckpt").stat().st_mtime_ns > begin:
                time.sleep(chance.uniform(0, 1.0))
                break
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 4
    done = run(*command(config, parts))
    assert done.returncode == 0, done.stderr
    for name in ("metrics.csv", "validation.csv"):
        assert timeless(parts / name) == timeless(whole / name)
    first, second = weights_of(whole), weights_of(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)
    first, second = (load_file(out / "joint.safetensors") for out in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_signals_exit_with_three_and_restart_begins_anew(tmp_path: Path) -> None:
    config, out = write_config(tmp_path, 4), tmp_path / "out"
    for kind in (signal.SIGTERM, signal.SIGINT):
        # with workers, to all processes of the group, as a terminal or a batch system does
        process = subprocess.Popen(
            command(config, out, "workers=2"),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        before = (out / "last.ckpt").stat().st_mtime_ns if (out / "last.ckpt").exists() else 0
        while process.poll() is None:
            if (out / "last.ckpt").exists() and (out / "last.ckpt").stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        os.killpg(process.pid, kind)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 3, errors
        assert "stopped, the same command goes on" in errors
        assert "Traceback" not in errors
    refused = run(*command(config, out, "seed=5"))
    assert refused.returncode == 2
    assert "other settings (seed)" in refused.stderr
    assert run(*command(config, out, "stages.depth=null", "stages.joint=null", "--restart")).returncode == 0
    with open(out / "metrics.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    (out / "last.ckpt").write_bytes(b"damaged")
    damaged = run(*command(config, out))
    assert damaged.returncode == 1
    assert len(damaged.stderr.strip().splitlines()) == 1
    assert "not a checkpoint" in damaged.stderr
    assert "Traceback" not in damaged.stderr


_SMALL_RUN = """
import pickle, sys
import torch
from tests.training.small_runs import dataset, tiny, use_small_networks
from trianflow.training.loop import Trainer
from trianflow.training.processes import leave
torch.set_num_threads(1)
raw = pickle.load(open(sys.argv[1], "rb"))
use_small_networks(raw, setattr)
trainer = Trainer(tiny(*sys.argv[3:]), sys.argv[2], quiet=True, data=(dataset(raw), dataset(raw[:3], None, 0)))
trainer.run()
leave()
"""
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "later"), [("flow", 1e-3), ("depth", 1e-3), ("joint", 0.1)])
def test_two_processes_learn_what_one_does(raw_pairs: list[RawPair], tmp_path: Path, stage: str, later: float) -> None:
    """Losses, norms of the gradient and weights, but for the order of sums.

    After a step of the joint stage, the flow differs by that rounding, and a pixel at the edge of the best fifth may
    fall on its other side: from then on the drawn points are others.
    """
    script, pairs = tmp_path / "script.py", tmp_path / "pairs.pickle"
    script.write_text(_SMALL_RUN)
    pairs.write_bytes(pickle.dumps(raw_pairs))
    one, two = tmp_path / "one", tmp_path / "two"
    words = [f"stages.{name}=null" for name in ("flow", "depth", "joint") if name != stage]
    for launcher, out in (([sys.executable], one), (TWO, two)):
        done = run(*launcher, str(script), str(pairs), str(out), *words)
        assert done.returncode == 0, done.stderr
    facts = ("step", "stage", "stage_step", "lr", "skipped")
    for first, second in zip(timeless(one / "metrics.csv"), timeless(two / "metrics.csv"), strict=True):
        assert [second[name] for name in facts] == [first[name] for name in facts]
        for name, value in first.items():
            if value and name not in facts:
                apart = 1e-4 if first["step"] == "1" else later
                assert float(second[name]) == pytest.approx(float(value), rel=apart, abs=1e-6), (name, first, second)
    first, second = weights_of(one), weights_of(two)
    assert first.keys() == second.keys()
    for key in first:
        # Adam divides by the size of the gradient. A bias before a norm has none but rounding, and steps either way.
        apart = 9e-4 if key == "depth.net.0.bias" else 6e-4 if stage == "joint" else 2e-4
        torch.testing.assert_close(second[key], first[key], rtol=1e-3, atol=apart)


@pytest.mark.slow
def test_two_processes_from_the_command_line(tmp_path: Path) -> None:
    config = write_config(tmp_path, 1)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(*command(config, one)).returncode == 0
    done = run(*TWO, "-m", "trianflow", "train", str(config), "--out", str(two))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done: 3 steps") == 1
    first, second = (timeless(out / "metrics.csv")[0] for out in (one, two))
    for name in ("total", "gradient"):
        assert float(second[name]) == pytest.approx(float(first[name]), rel=1e-3)
    refused = run(*TWO, "-m", "trianflow", "train", str(config), "batch_size=3", "--out", str(tmp_path / "x"))
    assert "batch_size 3 cannot be shared by 2 processes" in refused.stderr


_FIRST_STEP = """
import sys
import torch
from tests.training.small_runs import tiny
from trianflow.training.loop import Trainer
from trianflow.training.processes import leave
torch.set_num_threads(1)
trainer = Trainer(tiny(*sys.argv[2:]), sys.argv[1], quiet=True)
trainer.run()
if trainer.fabric.is_global_zero:
    gradients = {k: p.grad for k, p in trainer.system.named_parameters() if p.grad is not None}
    torch.save(gradients, sys.argv[1] + "/gradients.pt")
leave()
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["flow", "depth", "joint"])
def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path, stage: str) -> None:
    """Tensor by tensor, of the real networks; the flow is that of trained weights, so that there is geometry."""
    script = tmp_path / "script.py"
    script.write_text(_FIRST_STEP)
    words = [f"stages.{name}=null" for name in ("flow", "depth", "joint") if name != stage]
    words += [f"stages.{stage}.steps=1", "init=driving", "system.deepest=256", "clip=1e9"]
    words += ["data.train=[{synthetic: 2, seed: 1}]", "data.size=[256,128]"]
    words += ["system.geometry.two_view={threshold: 0.8, noise_floor: 0.1}"]
    found = []
    for launcher, out in (([sys.executable], tmp_path / "one"), (TWO, tmp_path / "two")):
        done = run(*launcher, str(script), str(out), *words)
        assert done.returncode == 0, done.stderr
        found.append(torch.load(out / "gradients.pt"))
    assert found[0].keys() == found[1].keys()
    networks = {key.split(".")[0] for key in found[0]}
    assert networks == {"flow": {"flow"}, "depth": {"depth"}, "joint": {"flow", "depth"}}[stage]
    sizes = {name: max(float(g.norm()) for k, g in found[0].items() if k.startswith(name)) for name in networks}
    assert min(sizes.values()) > 0
    for key, grad in found[0].items():
        apart, size = float((found[1][key] - grad).norm()), float(grad.norm())
        # Rounding turns some units of the depth encoder on or off: 0.1 %. Norms of each process alone make 40 %.
        assert apart <= 1e-2 * size + 1e-5 * sizes[key.split(".")[0]], (key, apart, size)


_GRADIENTS = """
import sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.training.test_processes import norm_net
from trianflow.training.processes import leave
from trianflow.training.sync_norm import synchronize_norms
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
net, x, w = norm_net()
synchronize_norms(net)
model = DistributedDataParallel(net)
for _ in range(2):
    net.zero_grad()
    y = model(x[rank::2])
    (y * w[rank::2]).mean().backward()
if rank == 0:
    torch.save({"grad": [p.grad for p in net.parameters()], "state": net.state_dict()}, sys.argv[1])
del model
leave()
"""


def norm_net() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4))
    return net, torch.randn(4, 3, 9, 11) * 3 + 1, torch.randn(4, 4, 5, 7)


@pytest.mark.slow
def test_norms_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    script, result = tmp_path / "script.py", tmp_path / "result.pt"
    script.write_text(_GRADIENTS)
    done = run(*TWO, str(script), str(result))
    assert done.returncode == 0, done.stderr
    found = torch.load(result)
    net, x, w = norm_net()
    for _ in range(2):
        net.zero_grad()
        (net(x) * w).mean().backward()
    for p, grad in zip(net.parameters(), found["grad"]):
        torch.testing.assert_close(grad, p.grad, rtol=1e-4, atol=1e-6)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(found["state"][key], value, rtol=1e-5, atol=1e-6)


def test_synchronised_norm_of_one_process_is_the_plain_one(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        (plain, x, w), (synced, *_) = norm_net(), norm_net()
        synchronize_norms(synced)
        assert [type(m) for m in synced if isinstance(m, nn.BatchNorm2d)] == [SyncedBatchNorm] * 2
        assert synced.state_dict().keys() == plain.state_dict().keys()
        results = []
        for net in (plain, synced):
            y = net(x)
            (y * w).mean().backward()
            results.append(y.detach())
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
        for p, q in zip(synced.parameters(), plain.parameters()):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(synced.state_dict()[key], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(synced.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-5)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (100.0, 0.1), (30.0, 1e-3), (5.0, 1e-3)])
def test_synchronised_norm_of_small_variance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float, deviation: float
) -> None:
    """Against the plain one in float64, on values that float32 holds."""
    monkeypatch.setattr(dist, "all_reduce", lambda x: None)
    generator = torch.Generator().manual_seed(0)
    x = mean + deviation * torch.randn(4, 3, 20, 30, generator=generator)
    up = torch.randn(x.shape, generator=generator)
    plain, net = nn.BatchNorm2d(3, dtype=torch.float64), nn.Sequential(nn.BatchNorm2d(3))
    synchronize_norms(net)
    ours, expected = x.clone().requires_grad_(), x.double().requires_grad_()
    y, z = net(ours), plain(expected)
    # The mean itself has no more digits than float32.
    lost = 10 * mean * 1e-7 / (deviation + 3e-3)
    torch.testing.assert_close(y.double(), z, rtol=1e-4, atol=1e-4 + lost)
    torch.testing.assert_close(net[0].running_mean.double(), plain.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net[0].running_var.double(), plain.running_var, rtol=1e-4, atol=1e-6)
    (y * up).sum().backward()
    (z * up.double()).sum().backward()
    size = expected.grad.abs().max()
    torch.testing.assert_close(ours.grad / size, (expected.grad / size).float(), rtol=1e-3, atol=1e-3 + lost)


@pytest.mark.slow
def test_imports() -> None:
    heavy = "'open3d', 'evo', 'pypose', 'matplotlib', 'tensorboard'"
    # Lightning's metrics import matplotlib by themselves
    absent = heavy.replace("'matplotlib', ", "")
    blocked = f"import sys; sys.modules.update(dict.fromkeys([{absent}])); import trianflow.training.loop"
    assert run(sys.executable, "-c", blocked).returncode == 0
    light = "import sys; from trianflow.cli import main; main(['--help']); import trianflow;"
    light += f"assert not {{'lightning', 'lightning_fabric', {heavy}}} & set(sys.modules)"
    done = run(sys.executable, "-c", light)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_pairs_are_learned_by_heart(tmp_path: Path) -> None:
    config = write_config(tmp_path, 40)
    words = ["--overfit", "2", "stages.depth=null", "stages.joint=null", "save_every=100", "val_every=100"]
    done = run(*command(config, tmp_path / "out", *words, "stages.flow.lr=5e-4"))
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "metrics.csv", newline="") as file:
        totals = [float(row["total"]) for row in csv.DictReader(file)]
    assert sum(totals[-5:]) < 0.75 * sum(totals[:5])


_DISAGREE = """
import os, pickle, sys
import torch
from tests.training.small_runs import dataset, tiny, use_small_networks
from trianflow.errors import TrianflowError
from trianflow.training import loop
from trianflow.training.run_folder import RunFolder
torch.set_num_threads(1)
raw, how = pickle.load(open(sys.argv[1], "rb")), sys.argv[3]
use_small_networks(raw, setattr)
rank = int(os.environ["RANK"])
def fail(*args, **kwargs):
    raise TrianflowError("cannot go on")
if how == "pairs" and rank == 1:
    raw = raw[:4]
if how == "open" and rank == 0:
    loop.open_pairs = fail
if how in ("save", "export") and rank == 0:
    setattr(RunFolder, how, fail)
if how == "validate" and rank == 0:
    loop.validate = fail
data = None if how == "open" else (dataset(raw), dataset(raw[:3], None, 0))
try:
    loop.Trainer(tiny("data.train=[{synthetic: 2}]"), sys.argv[2], quiet=True, data=data).run()
except TrianflowError as error:
    open(f"{sys.argv[2]}/{how}{rank}", "w").write(f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pairs", "open", "save", "export", "validate"])
def test_an_error_of_one_process_ends_both(raw_pairs: list[RawPair], tmp_path: Path, how: str) -> None:
    script, pairs, out = tmp_path / "script.py", tmp_path / "pairs.pickle", tmp_path / "out"
    script.write_text(_DISAGREE)
    pairs.write_bytes(pickle.dumps(raw_pairs))
    done = run(*TWO, str(script), str(pairs), str(out), how)
    assert done.returncode == 0, done.stderr
    told = [(out / f"{how}{rank}").read_text() for rank in (0, 1)]
    if how == "pairs":
        assert told[0] == told[1]
        assert told[0].startswith("UsageError: the processes differ in the checkpoint or the training pairs")
    else:
        assert told[0] == "TrianflowError: cannot go on"
        assert told[1] == "TrianflowError: another process of this run failed; its message says why"
