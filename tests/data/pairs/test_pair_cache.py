"""Caches: whole or not there, rebuilt when stale; videos, which always have one."""

import json
import os
import time

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.pairs import cache as cache_module
from trianflow.data.pairs.cache import Cache
from trianflow.data.pairs.config import DataConfig
from trianflow.data.pairs.dataset import open_dataset
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.rendered import RenderedPairs
from trianflow.errors import TrianflowError


def config_of(source, cache=None, **others) -> DataConfig:
    return DataConfig(**({"size": (64, 48), "train": [source], "min_motion": 0, "cache": cache} | others))


@pytest.fixture
def builds(monkeypatch) -> list[int]:
    """One entry for each picture that is prepared."""
    made: list[int] = []
    original = Preparation.image

    def counted(self, image):
        made.append(1)
        return original(self, image)

    monkeypatch.setattr(Preparation, "image", counted)
    return made


def test_a_cache_is_built_once(noise, tmp_path, builds) -> None:
    config = config_of({"path": str(noise)}, str(tmp_path / "cache"))
    open_dataset(config, "train", 0, False)
    assert len(builds) == 7
    dataset = open_dataset(config, "train", 0, False)
    dataset[0]
    assert len(builds) == 7


@pytest.mark.parametrize("change", ["content", "time", "calibration", "another", "truncated", "empty", "json", "gone"])
def test_a_stale_or_damaged_cache_is_rebuilt(noise, tmp_path, builds, change) -> None:
    folder = tmp_path / "cache"
    config = config_of({"path": str(noise)}, str(folder))
    open_dataset(config, "train", 0, False)
    array, facts = next(folder.glob("*.npy")), next(folder.glob("*.json"))
    builds.clear()
    if change == "content":
        cv2.imwrite(str(noise / "0.png"), np.full((64, 96, 3), 255, np.uint8))
    elif change == "time":
        os.utime(noise / "2.png", ns=(1, 1))
    elif change == "calibration":
        text = (noise / "calib.yaml").read_text()
        (noise / "calib.yaml").write_text(text.replace("80.0", "81.0"))
    elif change == "another":
        (noise / "7.png").write_bytes((noise / "0.png").read_bytes())
    elif change == "truncated":
        os.truncate(array, array.stat().st_size - 5000)
    elif change == "empty":
        os.truncate(array, 0)
    elif change == "json":
        facts.write_text(facts.read_text()[:40])
    else:
        array.unlink()
    dataset = open_dataset(config, "train", 0, False)
    assert len(builds) == (8 if change == "another" else 7)
    plain = open_dataset(config_of({"path": str(noise)}), "train", 0, False)
    assert len(dataset) == len(plain)
    for i in range(len(plain)):
        assert torch.equal(dataset[i].image_a, plain[i].image_a)
        assert torch.equal(dataset[i].K, plain[i].K)
    assert len(list(folder.iterdir())) == 2


def test_an_interrupted_build_leaves_nothing(noise, tmp_path, monkeypatch) -> None:
    config = config_of({"path": str(noise)}, str(tmp_path / "cache"))
    original, made = Preparation.image, []

    def interrupted(self, image):
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return original(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(Preparation, "image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(config, "train", 0, False)
    assert not list((tmp_path / "cache").iterdir())
    assert len(open_dataset(config, "train", 0, False)) == 6


def test_a_build_killed_between_its_two_files_does_not_count(tmp_path) -> None:
    old = Cache(tmp_path, "x", [1], {"state": "old"})
    old.write(iter(np.zeros((3, 2), np.uint8)), np.dtype(np.uint8), {})
    new = Cache(tmp_path, "x", [1], {"state": "new"})
    new.write(iter(np.ones((3, 2), np.uint8)), np.dtype(np.uint8), {"n": 1})
    assert new.read() == {"n": 1}
    assert old.read() is None
    new._json.unlink()
    assert new.read() is None


def test_what_killed_processes_left_is_removed_but_not_what_others_write(tmp_path) -> None:
    cache = Cache(tmp_path, "x", [1], {})
    dead, alive = (tmp_path / f".{cache.array.name}.{name}.tmp" for name in ("dead", "alive"))
    dead.touch()
    alive.touch()
    os.utime(dead, (time.time() - 7200,) * 2)
    cache.write(iter(np.zeros((3, 2))), np.dtype(np.float64), {})
    assert not dead.exists()
    assert alive.exists()


def test_the_array_and_what_is_known_of_it(tmp_path) -> None:
    values = np.random.default_rng(0).random((1200, 2, 3)).astype(np.float32)
    cache = Cache(tmp_path, "a video/with: odd name.mp4", [1, None], {"tuple": (1, 2)})
    about: dict = {"seen": 0}

    def items():
        for value in values:
            about["seen"] += 1
            yield value

    cache.write(items(), np.dtype(np.float32), about, len(values))
    again = Cache(tmp_path, "a video/with: odd name.mp4", [1, None], {"tuple": (1, 2)})
    assert again.read() == {"seen": 1200}
    np.testing.assert_array_equal(again.open(), values)
    np.testing.assert_array_equal(np.load(cache.array), values)
    assert Cache(tmp_path, "a video/with: odd name.mp4", [2, None], {}).array != cache.array
    assert not again.open().flags.writeable


def test_too_little_space_and_a_place_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    cache = Cache(tmp_path / "cache", "x", [1], {})
    with pytest.raises(TrianflowError, match="are needed"):
        cache.write(iter(np.zeros((2, 8))), np.dtype(np.float64), {}, expected=10**15)
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(TrianflowError, match="cannot write the cache"):
        Cache(tmp_path / "file", "x", [1], {}).write(iter(np.zeros((2, 8))), np.dtype(np.float64), {})


def test_synthetic_cache_of_another_world_is_rebuilt(tmp_path, monkeypatch) -> None:
    config = config_of({"synthetic": 3, "seed": 1}, str(tmp_path))
    before = open_dataset(config, "train", 0, False)[2]
    rendered: list[int] = []
    original = RenderedPairs._render

    def render(self, number):
        rendered.append(number)
        return original(self, number)

    monkeypatch.setattr(RenderedPairs, "_render", render)
    assert torch.equal(open_dataset(config, "train", 0, False)[2].image_b, before.image_b)
    assert rendered == [0]  # the look whether it is the same world

    def other(self, number):
        record = render(self, number)
        record["images"] = record["images"][:, ::-1]
        return record

    monkeypatch.setattr(RenderedPairs, "_render", other)
    assert torch.equal(open_dataset(config, "train", 0, False)[2].image_b, before.image_b.flip(-2))


def test_synthetic_pairs_of_one_kind_of_scene_have_a_cache_of_their_own(tmp_path) -> None:
    office, mixed = ({"synthetic": 2, "seed": 1} | more for more in ({"scene": "office"}, {}))
    near, far, again = (
        open_dataset(config_of(s, str(tmp_path)), "train", 0, False)[0] for s in (office, mixed, office)
    )
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert torch.equal(near.image_a, again.image_a)
    assert (near.image_a - far.image_a).abs().mean() > 0.05


@pytest.fixture
def video(tmp_path):
    """Eight frames of 96 x 64 that brighten, and their calibration."""
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    assert writer.isOpened()
    for i in range(8):
        frame = np.full((64, 96, 3), 20 + 25 * i, np.uint8)
        frame[:, 48:] //= 2
        writer.write(frame)
    writer.release()
    (tmp_path / "drive.yaml").write_text("fx: 80\nfy: 80\ncx: 47.5\ncy: 31.5\nwidth: 96\nheight: 64\n")
    return path


def test_video(video, tmp_path, monkeypatch, builds) -> None:
    monkeypatch.chdir(tmp_path)
    source = {"path": str(video), "start": 1, "stride": 2}
    for cache, place in ((None, "runs/cache"), (str(tmp_path / "named"), "named")):
        builds.clear()
        dataset = open_dataset(config_of(source, cache), "train", 0, False)
        assert len(dataset) == 5
        assert len(builds) == 7
        for i in (4, 0, 2):
            item = dataset[i]
            for image, number in ((item.image_a, i + 1), (item.image_b, i + 3)):
                grey = (20 + 25 * number) / 255
                assert abs(float(image[..., :28].mean()) - grey) < 0.03
                assert abs(float(image[..., 36:].mean()) - grey / 2) < 0.03
            assert float(item.K[0, 0, 0]) == pytest.approx(80 * 64 / 96)
        assert len(list((tmp_path / place).glob("drive*.npy"))) == 1
        open_dataset(config_of(source, cache), "train", 0, False)
        assert len(builds) == 7
    about = json.loads(next((tmp_path / "named").glob("*.json")).read_text())["about"]
    np.testing.assert_allclose(about["times"], np.arange(1, 8) / 10, atol=1e-3)


def test_two_builders_at_once(noise, tmp_path, monkeypatch) -> None:
    """A second process builds the same cache in the middle of the first one's build."""
    config = config_of({"path": str(noise)}, str(tmp_path / "cache"))
    original, nested = cache_module._write_array, []

    def write(*args):
        if not nested:
            nested.append(1)
            nested.append(open_dataset(config, "train", 0, False))
        return original(*args)

    monkeypatch.setattr(cache_module, "_write_array", write)
    first = open_dataset(config, "train", 0, False)
    for i in range(6):
        assert torch.equal(first[i].image_a, nested[1][i].image_a)
    assert len(list((tmp_path / "cache").iterdir())) == 2
