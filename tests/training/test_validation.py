"""Validation: nothing is wrong with the truth, and known errors are measured as such."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.systems.known_networks import KnownDepth, KnownFlow, batch_of
from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.geometry.camera import Camera
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import Stages
from trianflow.training.pictures import training_picture
from trianflow.training.validation import FIGURES, WATCHED, validate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pair() -> RenderedPair:
    scene = make_scene("street", 2, 0, length=40.0)
    T_wc = camera_path("driving", scene, 2, 10.0, 1)[None]
    times = torch.tensor([[0.0, 0.1]], dtype=torch.float64)
    return render_pairs([scene], T_wc, times, Camera.from_fov(256, 128, 80).K()[None], 128, 256)


class DepthOfA(KnownDepth):
    """Validation asks for image a alone."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.disparity[: len(image)]]


def system(pair: RenderedPair, offset: float = 0.0, depth: torch.Tensor | None = None) -> TrianFlow:
    made = TrianFlow()
    made.flow = KnownFlow(pair.flow_ab + offset, pair.flow_ba - offset)  # type: ignore[assignment]
    depth = pair.depth_a if depth is None else depth
    made.depth = DepthOfA(depth, depth, 0.2)  # type: ignore[assignment]
    return made


def known(pair: RenderedPair) -> PairBatch:
    batch = batch_of(pair)
    assert batch.truth is not None
    depth = torch.where(pair.depth_a.isfinite(), pair.depth_a, torch.nan)
    return replace(batch, truth=replace(batch.truth, depth_a=depth))


def test_the_truth_has_no_error(pair: RenderedPair) -> None:
    found = validate(system(pair), [known(pair)], True, CPU)
    assert set(found) == set(FIGURES)
    assert found["epe"] == found["epe_visible"] == found["outliers"] == 0
    assert found["epe_zero"] == pytest.approx(float(pair.flow_ab.norm(dim=1).mean()), rel=1e-5)
    assert found["solved"] == 1
    assert found["rotation"] < 1e-3
    assert found["direction"] < 1e-2
    assert found["abs_rel"] < 1e-3
    assert found["abs_rel_constant"] > 0.2
    assert found["depth_error"] < 0.05, "the network sees 100 m far"
    assert found["photometric"] < 0.15


def test_known_errors(pair: RenderedPair) -> None:
    found = validate(system(pair, 4.0, torch.full_like(pair.depth_a, 7.0)), [known(pair)], True, CPU)
    assert found["epe"] == pytest.approx(4 * 2**0.5, rel=1e-4)
    assert found["epe_visible"] == pytest.approx(4 * 2**0.5, rel=1e-4)
    assert found["outliers"] > 0.9
    assert found["abs_rel"] == pytest.approx(found["abs_rel_constant"], rel=1e-5)
    assert found["rotation"] > 0.5


def test_nothing_is_said_of_what_is_unknown(pair: RenderedPair) -> None:
    batch = known(pair)
    assert batch.truth is not None
    bare = validate(system(pair), [replace(batch, truth=None)], False, CPU)
    assert set(bare) == {"photometric", "solved"}
    assert set(validate(system(pair), [replace(batch, truth=None)], True, CPU)) == {
        "photometric",
        "solved",
        "depth_error",
    }
    poses = PairTruth(T_ba=batch.truth.T_ba)
    assert set(validate(system(pair), [replace(batch, truth=poses)], False, CPU)) == {
        *("photometric", "solved", "rotation", "direction"),
    }
    assert validate(system(pair), [], True, CPU) == {}
    for names in WATCHED.values():
        assert set(names) <= set(FIGURES)


def test_means_are_over_pairs_not_batches(pair: RenderedPair) -> None:
    batch = known(pair)
    unknown = replace(batch, truth=replace(batch.truth, flow_ab=torch.full_like(pair.flow_ab, torch.nan)))
    made = system(pair, 1.0)
    found = validate(made, [batch, unknown], False, CPU)
    assert found["epe"] == pytest.approx(2**0.5, rel=1e-4), "a pair without truth has no say"
    assert found == pytest.approx(validate(made, [unknown, batch], False, CPU))


def test_modes_of_all_parts_come_back(pair: RenderedPair) -> None:
    made = TrianFlow()
    made.flow = KnownFlow(pair.flow_ab, pair.flow_ba)  # type: ignore[assignment]
    made.depth.eval()
    before = [m.training for m in made.modules()]
    running = {name: b.clone() for name, b in made.named_buffers()}
    seen: list[bool] = []
    made.depth.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    validate(made, [known(pair)], True, CPU)
    assert seen == [False]
    assert [m.training for m in made.modules()] == before
    assert all(torch.equal(b, running[name]) for name, b in made.named_buffers())
    broken = nn.Module.forward
    made.flow.forward = lambda *args: broken(made.flow)  # type: ignore[method-assign]
    with pytest.raises((NotImplementedError, TypeError)):
        validate(made, [known(pair)], True, CPU)
    assert [m.training for m in made.modules()] == before


def test_a_picture_of_a_batch(pair: RenderedPair) -> None:
    made, batch = system(pair), known(pair)
    made.depth = KnownDepth(pair.depth_a, pair.depth_b, 0.2)  # type: ignore[assignment]
    stages = dict(Stages().listed())
    picture = training_picture(batch, made(batch, stages["joint"].losses))
    assert picture.shape == (128, 7 * 256, 3)
    assert picture.dtype == "uint8"
    columns = picture.reshape(128, 7, 256, 3).transpose(1, 0, 2, 3)
    image = (pair.image_a[0].permute(1, 2, 0) * 255).round().numpy()
    assert (columns[0] == image).all()
    assert (columns[3][..., 0] > 200).mean() > 0.6, "most is visible"
    assert (columns[4][..., 0] > 200).mean() > 0.9, "all stands still"
    near = columns[5][pair.depth_a[0, 0].numpy() < 5].mean()
    assert near > columns[5][pair.depth_a[0, 0].numpy() > 30].mean() + 30, "near is bright"
    assert (columns[6] != columns[0] // 2).any(-1).mean() > 0.1, "points"
    assert training_picture(batch, made(batch, stages["flow"].losses)).shape == (128, 4 * 256, 3)
    twice = replace(batch, input_a=batch.input_a.expand(1, 3, 128, 256))
    assert training_picture(twice, made(twice, stages["joint"].losses), pairs=5).shape == picture.shape
