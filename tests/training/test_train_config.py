"""Settings of a run: schedules, lengths, and wrong keys at any depth."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trianflow.config import load_settings
from trianflow.data.pairs.config import DataConfig
from trianflow.errors import UsageError
from trianflow.systems.config import LossWeights
from trianflow.training.config import StageConfig, Stages, TrainConfig

LOSSES = LossWeights(pixel=1.0)


def stage(**values: object) -> StageConfig:
    return StageConfig(train=("flow",), losses=LOSSES, **values)  # type: ignore[arg-type]


def test_constant_rate() -> None:
    assert {stage(lr=3e-4).rate(step, 100) for step in range(100)} == {3e-4}


def test_warmup_then_cosine() -> None:
    config = stage(lr=1e-3, warmup=10, lr_end=0.1)
    rates = [config.rate(step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert rates[60] == pytest.approx(0.55e-3)
    assert rates[35] == pytest.approx(1e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2))
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert config.rate(110, 110) == pytest.approx(1e-4)
    assert config.rate(500, 110) == pytest.approx(1e-4)
    assert stage(lr=1.0, warmup=10).rate(4, 5) == pytest.approx(0.5), "a stage shorter than its warmup"


def test_epochs_to_steps() -> None:
    assert stage(epochs=3).length(100, 8) == 3 * 12
    assert stage(epochs=0.5).length(100, 8) == 6
    assert stage(epochs=0.01).length(100, 8) == 1
    assert stage(epochs=2).length(3, 8) == 2
    assert stage(epochs=3, steps=7).length(100, 8) == 7


def test_published_stages() -> None:
    listed = Stages().listed()
    assert [(name, s.train, s.epochs) for name, s in listed] == [
        ("flow", ("flow",), 20),
        ("depth", ("depth",), 20),
        ("joint", ("flow", "depth"), 10),
    ]
    assert listed[2][1].losses.epipolar == 0.002
    assert [name for name, _ in Stages(flow=None, depth=None).listed()] == ["joint"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batchsize=4", "'batchsize'; did you mean 'batch_size'"),
        ("data.sise=[64,64]", "'data.sise'; did you mean 'data.size'"),
        ("stages.flo.lr=1", "'stages.flo'; did you mean 'stages.flow'"),
        ("stages.flow.losses.sim=1", "'stages.flow.losses.sim'; did you mean 'stages.flow.losses.ssim'"),
        ("stages.flow={losses: {flow_smoth: 1}}", "did you mean 'stages.flow.losses.flow_smooth'"),
        ("system.geometry.two_view.treshold=1", "did you mean 'system.geometry.two_view.threshold'"),
        ("data.train=[{pth: drive.mp4}]", r"'data.train\[0\].pth'; did you mean 'data.train\[0\].path'"),
        ("data.train=[{synthetic: 4}, {path: a, strid: 2}]", r"did you mean 'data.train\[1\].stride'"),
        ("data.train=[{sythetic: 4}]", r"did you mean 'data.train\[0\].synthetic'"),
        ("data.val=[{synthetic: 4, sed: 1}]", r"did you mean 'data.val\[0\].seed'"),
        ("data.train=[3]", r"data.train\[0\]: 3 is not a group of settings"),
        ("data.train={synthetic: 3}", r"data.train: \{'synthetic': 3\} is not a list"),
        ("data.train=[{path: a, stride: x}]", r"data.train\[0\].stride: 'x' is not a whole number"),
        ("data.train=[{stride: 2}]", r"data.train\[0\].path: missing"),
        ("stages.flow=3", "configuration: stages.flow: 3 is not a group of settings"),
        ("stages.flow.steps=many", "configuration: stages.flow.steps: 'many' is not a whole number"),
        ("system.normalize_features=maybe", "system.normalize_features: 'maybe' is not true or false"),
        ("stages.flow.losses.ssim=-1", "stages.flow.losses.ssim: -1 is below 0"),
        ("stages.flow.train=[pose]", r"stages.flow.train\[0\]: 'pose' is unknown; take 'flow' or 'depth'"),
        ("stages.flow.train=[]", "stages.flow.train: 0 values, where at least 1"),
        ("stages.flow.train=[depth]", "stages.flow: the depth network is to learn, but no loss looks at depth$"),
        ("stages.depth={train: [flow], losses: {triangulation: 0}}", "no loss reaches it"),
        ("stages.flow.losses={pixel: 0, ssim: 0, flow_smooth: 0}", "all losses have weight zero"),
        ("stages.flow.losses={truth: 1}", "losses.truth needs true flow"),
        ("stages.depth.losses={depth_truth: 1}", "losses.depth_truth needs true depth"),
        ("data.train=[{synthetic: 4}, {warped: a}]", "warped images have no camera"),
        ("photometric={losses: {velocity: 1}}", "losses.velocity needs to know how fast the camera was"),
        ("photometric={system: {pose: flow}}", "pose: flow has no flow to learn from"),
        ("precision=fp16", "precision: 'fp16' is unknown; take .*'bf16-mixed'"),
        ("accelerator=gpu", "accelerator: 'gpu' is unknown; take .*'cuda'"),
        ("batch_size=0", "batch_size: 0 is not above 0"),
        ("data.size=[64]", r"data.size\[1\]: missing"),
    ],
)
def test_wrong_settings(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_settings(TrainConfig(), None, [word])
    assert "\n" not in str(error.value)


def test_a_stage_is_left_out_by_null(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("stages:\n  depth: null\n  joint:\n    losses: {rigid_flow: 0.5}\n    epochs: 1\n")
    config = load_settings(TrainConfig(), file)
    assert [name for name, _ in config.stages.listed()] == ["flow", "joint"]
    joint = config.stages.joint
    assert joint is not None
    assert (joint.losses.rigid_flow, joint.losses.ssim, joint.epochs) == (0.5, 0, 1), (
        "losses in a file are all there are"
    )


def test_what_losses_need() -> None:
    def needs(**values: float) -> tuple[bool, bool, bool]:
        weights = LossWeights(**values)
        return weights.need_flow_losses, weights.need_geometry, weights.need_depth

    assert needs() == (False, False, False)
    for name in ("pixel", "ssim", "flow_smooth", "flow_consistency"):
        assert needs(**{name: 0.1}) == (True, False, False)
    assert needs(epipolar=0.1) == (False, True, False)
    assert needs(truth=0.1) == (False, False, False)
    for name in ("triangulation", "depth_consistency", "rigid_flow"):
        assert needs(**{name: 0.1}) == (False, True, True)
    for name in ("depth_truth", "depth_smooth"):
        assert needs(**{name: 0.1}) == (False, False, True)
        assert not LossWeights(**{name: 0.1}).need_flow
    for name in set(LossWeights.model_fields) - {"depth_truth", "depth_smooth"}:
        assert LossWeights(**{name: 0.1}).need_flow


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{synthetic: 4}", None),
        ("{drives: 4}", None),
        ("{path: a, depth: b}", None),
        ("{path: a}", "needs true depth"),
        ("{warped: a}", "needs true depth"),
    ],
)
def test_which_data_have_true_depth(source: str, message: str | None) -> None:
    words = [f"data.train=[{source}]", "stages.flow=null", "stages.joint=null", "stages.depth.losses={depth_truth: 1}"]
    if message is None:
        load_settings(TrainConfig(), None, words)
    else:
        with pytest.raises(UsageError, match=message):
            load_settings(TrainConfig(), None, words)


def test_networks_that_are_used_up_to_a_stage() -> None:
    config = TrainConfig()
    assert config.used("flow") == {"flow"}
    assert config.used("depth") == config.used("joint") == {"flow", "depth"}
    for losses, expected in (
        (LossWeights(triangulation=1.0), {"flow", "depth"}),  # it teaches depth
        (LossWeights(depth_truth=1.0, depth_smooth=1e-3), {"depth"}),
    ):
        stages = Stages(flow=None, depth=StageConfig(train=("depth",), losses=losses), joint=None)
        data = DataConfig.model_validate({"train": [{"drives": 4}]})
        assert TrainConfig(data=data, stages=stages).used("depth") == expected


def test_losses_of_a_file_are_whole_and_words_change_single_ones(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("stages: {flow: {losses: {pixel: 0.5}}}\n")
    config = load_settings(TrainConfig(), file, ["stages.flow.losses.ssim=0.7", "stages.joint.losses.epipolar=3"])
    flow, joint = config.stages.flow, config.stages.joint
    assert flow is not None
    assert joint is not None
    assert flow.losses == LossWeights(pixel=0.5, ssim=0.7)
    default = Stages().joint
    assert default is not None
    assert joint.losses == default.losses.model_copy(update={"epipolar": 3.0})
    file.write_text("stages: {flow: {losses: {pixl: 0.5}}}\n")
    with pytest.raises(UsageError, match=r"did you mean 'stages\.flow\.losses\.pixel'"):
        load_settings(TrainConfig(), file)


@pytest.mark.parametrize("name", LossWeights.model_fields)
def test_a_network_learns_from_a_term_that_reaches_it(name: str) -> None:
    losses = LossWeights(**{name: 0.1})
    reaches = {"rigid_flow": {"flow", "depth"}, "triangulation": {"flow", "depth"}}
    reaches |= {key: {"depth"} for key in ("depth_truth", "depth_consistency", "depth_smooth")}
    for network in ("flow", "depth"):
        if network in reaches.get(name, {"flow"}):
            StageConfig(train=(network,), losses=losses)
        else:
            with pytest.raises(ValueError, match="is to learn, but no loss"):
                StageConfig(train=(network,), losses=losses)
