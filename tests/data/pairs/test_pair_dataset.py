"""Datasets: the same items always, replaced pairs, static pairs, poses, synthetic pairs, workers."""

import pickle
from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from trianflow.data.pairs import static
from trianflow.data.pairs.batch import PairBatch, collate
from trianflow.data.pairs.config import DataConfig
from trianflow.data.pairs.dataset import open_dataset, worker_init
from trianflow.data.pairs.sampler import StepSampler
from trianflow.data.synthetic import random_pairs
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.warping import rigid_flow
from trianflow.trajectory import Trajectory


def same(a: PairBatch, b: PairBatch) -> bool:
    """Equal to the bit, NaN included."""

    def equal(x, y) -> bool:
        if x is None or y is None:
            return x is y
        return torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)) and torch.equal(x.isnan(), y.isnan())

    names = ("image_a", "image_b", "input_a", "input_b", "K", "index")
    if (a.truth is None) != (b.truth is None) or a.problems != b.problems:
        return False
    truth = a.truth is None or all(equal(getattr(a.truth, f.name), getattr(b.truth, f.name)) for f in fields(a.truth))
    return truth and all(equal(getattr(a, n), getattr(b, n)) for n in names)


def config_of(*sources, **others) -> DataConfig:
    return DataConfig(**({"size": (64, 48), "train": sources, "min_motion": 0} | others))


@pytest.fixture
def mixed(drive, noise, tmp_path) -> DataConfig:
    """Frames with poses, frames without any truth, and synthetic pairs."""
    recorded = {"path": str(drive.folder), "poses": str(drive.folder / "poses.txt")}
    return config_of(recorded, {"path": str(noise)}, {"synthetic": 2, "seed": 3}, fit="crop")


def test_items_depend_on_seed_epoch_and_index_alone(mixed) -> None:
    dataset, again = open_dataset(mixed, "train", 5, True), open_dataset(mixed, "train", 5, True)
    assert len(dataset) == 3 + 6 + 2
    keys = [(e, i) for e in range(2) for i in range(len(dataset))]
    first = {key: dataset[key] for key in keys}
    for key in reversed(keys):
        assert same(again[key], first[key])
    other = open_dataset(mixed, "train", 6, True)
    assert not all(same(other[key], first[key]) for key in keys)
    assert not all(same(first[0, i], first[1, i]) for i in range(len(dataset)))
    plain = open_dataset(mixed, "train", 5, False)
    for i in range(len(dataset)):
        assert same(plain[(0, i)], plain[(7, i)])
        item = plain[i]
        assert item.input_a is item.image_a
        assert same(item, plain[(0, i)])
    with pytest.raises(IndexError):
        dataset[(0, len(dataset))]


def test_images_for_the_losses_are_not_jittered(mixed) -> None:
    jittered = open_dataset(mixed, "train", 5, True)
    quiet = open_dataset(mixed.model_copy(update={"jitter": 0.0}), "train", 5, True)
    for i in range(len(jittered)):
        a, b = jittered[(1, i)], quiet[(1, i)]
        assert torch.equal(a.image_a, b.image_a)
        assert b.input_b is b.image_b
        assert not torch.equal(a.input_a, a.image_a)
        assert a.input_a.min() >= 0
        assert a.input_a.max() <= 1


def test_some_pairs_are_grey_for_the_networks_alone(mixed) -> None:
    plain, some = (open_dataset(mixed.model_copy(update={"grey": grey}), "train", 5, True) for grey in (0.0, 0.4))
    found = []
    for epoch in range(20):
        for i in (9, 10):  # synthetic, in colour
            a, b = plain[(epoch, i)], some[(epoch, i)]
            assert torch.equal(a.image_a, b.image_a)
            luma = sum(w * a.input_a[:, c] for c, w in enumerate((0.299, 0.587, 0.114)))
            grey = torch.allclose(b.input_a, luma[:, None].expand(-1, 3, -1, -1), atol=1e-6)
            assert grey or torch.equal(b.input_a, a.input_a)
            assert torch.equal(b.input_b[:, :1].expand(-1, 3, -1, -1), b.input_b) == grey, "both images of a pair"
            found.append(grey)
    assert 0.2 < np.mean(found) < 0.6


def test_the_cache_changes_nothing(mixed, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = open_dataset(mixed, "train", 1, True)
    cached_config = mixed.model_copy(update={"cache": str(tmp_path / "cache")})
    for _ in range(2):  # built, then read
        cached = open_dataset(cached_config, "train", 1, True)
        for i in range(len(plain)):
            assert same(plain[(3, i)], cached[(3, i)])
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3
    assert not (tmp_path / "runs").exists()


def test_collate_and_to(mixed) -> None:
    dataset = open_dataset(mixed, "train", 1, True)
    items = [dataset[(0, i)] for i in (0, 4, 10)]
    batch = collate(items)
    assert len(batch) == 3
    assert batch.index.tolist() == [0, 4, 10]
    assert batch.image_a.shape == (3, 3, 48, 64)
    assert batch.K.dtype == batch.truth.T_ba.dtype == torch.float64
    assert batch.truth.T_ba.isnan().flatten(1).all(1).tolist() == [False, True, False]
    assert batch.truth.flow_ab.isnan().flatten(1).all(1).tolist() == [True, True, False]
    assert batch.truth.visible_a.shape == batch.truth.depth_a.shape == (3, 1, 48, 64)
    for i, item in enumerate(items):
        assert torch.equal(batch.input_b[i], item.input_b[0])
    moved = batch.to("cpu")
    assert same(moved, batch)
    assert collate(items[1:2]).truth is None
    plain = open_dataset(mixed, "train", 1, False)
    batch = collate([plain[0], plain[1]])
    assert batch.input_a is batch.image_a
    double = batch._each(lambda x: x.clone())
    assert double.input_a is double.image_a
    assert double.input_b is double.image_b


def test_it_pickles_without_open_files(mixed, tmp_path) -> None:
    dataset = open_dataset(mixed.model_copy(update={"cache": str(tmp_path / "cache")}), "train", 1, True)
    before = [dataset[(1, i)] for i in range(len(dataset))]
    data = pickle.dumps(dataset)
    assert len(data) < 100_000  # no arrays
    copy = pickle.loads(data)
    assert all(same(copy[(1, i)], item) for i, item in enumerate(before))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_same_batches(mixed, tmp_path, method) -> None:
    dataset = open_dataset(mixed.model_copy(update={"cache": str(tmp_path / "cache")}), "train", 1, True)
    alone = [collate([dataset[key] for key in keys]) for keys in StepSampler(len(dataset), 4, 9, steps=4)]
    loader = DataLoader(
        dataset,
        batch_sampler=StepSampler(len(dataset), 4, 9, steps=4),
        num_workers=2,
        collate_fn=collate,
        worker_init_fn=worker_init,
        multiprocessing_context=method,
    )
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    assert all(same(a, b) for a, b in zip(alone, batches))
    plain = open_dataset(mixed, "train", 1, False)
    batch = next(iter(DataLoader(plain, 4, num_workers=1, collate_fn=collate, multiprocessing_context=method)))
    assert batch.index.tolist() == [0, 1, 2, 3]
    assert batch.input_a is batch.image_a


def test_an_unreadable_frame_is_replaced_and_named(noise, tmp_path) -> None:
    file = noise / "3.png"
    file.write_bytes(file.read_bytes()[:100])
    sound = open_dataset(config_of({"path": str(noise), "start": 4}, jitter=0, flip=0), "train", 1, True)
    for cache in (None, str(tmp_path / "cache")):
        for _ in range(2):
            dataset = open_dataset(config_of({"path": str(noise)}, cache=cache, jitter=0, flip=0), "train", 1, True)
            assert len(dataset) == 6
            for index in (2, 3):  # (2, 3) and (3, 4) become (4, 5)
                item = dataset[(0, index)]
                assert item.index.tolist() == [4]
                assert torch.equal(item.image_b, sound[(0, 0)].image_b)
                assert len(item.problems) == 1
                assert str(file) in item.problems[0]
                assert "truncated" in item.problems[0]
            assert dataset[(0, 1)].problems == dataset[(0, 4)].problems == ()
            assert len(collate([dataset[(0, 2)], dataset[(0, 3)]]).problems) == 1


def test_the_last_pair_is_replaced_by_the_first(noise) -> None:
    (noise / "6.png").write_bytes(b"")
    dataset = open_dataset(config_of({"path": str(noise)}), "train", 1, False)
    assert dataset[5].index.tolist() == [0]
    assert "empty" in dataset[5].problems[0]


def test_nothing_readable_is_an_error(noise) -> None:
    for i in (1, 3, 5):
        (noise / f"{i}.png").write_bytes(b"")
    dataset = open_dataset(config_of({"path": str(noise)}), "train", 1, False)
    with pytest.raises(TrianflowError, match="not one of the 6 pairs can be read"):
        dataset[0]


def test_static_pairs_are_left_out(noise, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for cache in (None, str(tmp_path / "cache")):
        config = config_of({"path": str(noise)}, min_motion=0.01, cache=cache)
        dataset = open_dataset(config, "train", 1, False)
        assert len(dataset) == 4
        assert "2 of 6 pairs hardly move" in " ".join(dataset.notes)
        everything = open_dataset(config_of({"path": str(noise)}), "train", 1, False)
        for i in range(4):
            assert torch.equal(dataset[i].image_a, everything[2 + i].image_a)
    # (1, 3) moves, (0, 2) does not
    config = config_of({"path": str(noise), "stride": 2}, min_motion=0.01)
    assert len(open_dataset(config, "train", 1, False)) == 4

    def never(*args) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(static, "_measure", never)
        assert len(open_dataset(config, "train", 1, False)) == 4
        everything = config_of({"path": str(noise), "stride": 2}, min_motion=0.001)
        assert len(open_dataset(everything, "train", 1, False)) == 4
        with pytest.raises(TrianflowError, match=r"train\[0\].*all of its 5 pairs move less than 0.2"):
            open_dataset(config.model_copy(update={"min_motion": 0.2}), "train", 1, False)
    (noise / "1.png").write_bytes((noise / "6.png").read_bytes())
    assert len(open_dataset(config_of({"path": str(noise)}, min_motion=0.01), "train", 1, False)) == 6


def test_frames_with_others_missing_in_between_are_no_pair(noise, tmp_path) -> None:
    (noise / "times.txt").write_text("0\n0.1\n0.2\n0.3\n3.8\n3.9\n4.1\n")
    dataset = open_dataset(config_of({"path": str(noise)}), "train", 1, False)
    assert dataset._sources[0]._first.tolist() == [0, 1, 2, 4, 5], "twice the usual time is still a pair"
    assert "1 of 6 pairs are left out: frames are missing in between" in " ".join(dataset.notes)
    config = config_of({"path": str(noise)}, min_motion=0.01, cache=str(tmp_path / "cache"))
    moving = open_dataset(config, "train", 1, False)
    assert moving._sources[0]._first.tolist() == [2, 4, 5]
    assert "2 of 6 pairs hardly move" in " ".join(moving.notes)
    wide = open_dataset(config_of({"path": str(noise), "stride": 3}), "train", 1, False)
    assert wide._sources[0]._first.tolist() == [0]


def test_motion_is_the_share_of_the_width(noise, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (noise / "4.png").write_bytes(b"broken")
    config = config_of({"path": str(noise)}, min_motion=1e-6)
    source = open_dataset(config, "train", 1, False)._sources[0]
    motion = static.pair_motion(source._frames, 1).motion
    np.testing.assert_allclose(motion[[2, 5]], 3 / 96, rtol=0.05)
    np.testing.assert_allclose(motion[:2], 0, atol=1e-3)
    assert np.isnan(motion[[3, 4]]).all()
    # an unreadable frame may move: its pairs stay, so that the file is named
    assert len(source) == 4


def test_a_folder_that_cannot_be_written_costs_time_only(noise, tmp_path, monkeypatch) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(config_of({"path": str(noise)}, min_motion=0.01), "train", 1, False)
    assert len(dataset) == 4
    assert "not kept" in " ".join(dataset.notes)


def test_stride_start_and_end(noise) -> None:
    everything = open_dataset(config_of({"path": str(noise)}), "train", 1, False)
    part = open_dataset(config_of({"path": str(noise), "start": 2, "end": 6, "stride": 2}), "train", 1, False)
    assert len(part) == 2
    assert torch.equal(part[1].image_a, everything[3].image_a)
    assert torch.equal(part[1].image_b, everything[4].image_b)


def test_pairs_that_an_epoch_has_several_times(noise) -> None:
    once, thrice = (
        open_dataset(config_of({"path": str(noise), "end": 5, "times": n}), "train", 1, False) for n in (1, 3)
    )
    assert len(thrice) == 3 * len(once)
    for i in range(len(thrice)):
        assert torch.equal(thrice[i].image_a, once[i % len(once)].image_a)


def test_poses_by_number_and_by_time(drive, tmp_path) -> None:
    T_wc = drive.T_wc.numpy()
    (drive.folder / "images" / "times.txt").write_text("0.0\n0.1\n0.2\n0.3\n")
    Trajectory(np.array([0.105, 0.19, 0.5]), T_wc[[1, 2, 3]]).save(tmp_path / "poses.tum", "tum")
    try:
        for file, known in ((drive.folder / "poses.txt", [1, 2]), (tmp_path / "poses.tum", [1])):
            config = config_of({"path": str(drive.folder), "poses": str(file), "start": 1})
            dataset = open_dataset(config, "train", 1, False)
            for i in range(2):
                truth = dataset[i].truth
                if i + 1 in known:
                    expected = np.linalg.inv(T_wc[i + 2]) @ T_wc[i + 1]
                    np.testing.assert_allclose(truth.T_ba[0], expected, atol=1e-5)
                else:
                    assert truth is None
        Trajectory(np.array([50.5, 60.5]), T_wc[:2]).save(tmp_path / "late.tum", "tum")
        config = config_of({"path": str(drive.folder), "poses": str(tmp_path / "late.tum")})
        with pytest.raises(TrianflowError, match="none of its 2 poses belongs"):
            open_dataset(config, "train", 1, False)
    finally:
        (drive.folder / "images" / "times.txt").unlink()


def test_depth_of_single_frames_may_be_missing(drive, tmp_path) -> None:
    depth = tmp_path / "depth"
    depth.mkdir()
    cv2.imwrite(str(depth / "000001.png"), np.full((160, 320), 2560, np.uint16))
    source = {"path": str(drive.folder), "depth": str(depth), "depth_scale": 256}
    dataset = open_dataset(config_of(source), "train", 1, False)
    assert dataset[0].truth is None
    assert (dataset[1].truth.depth_a == 10).all()
    with pytest.raises(UsageError, match="scale"):
        open_dataset(config_of({"path": str(drive.folder), "depth": str(depth)}), "train", 1, False)


def test_synthetic_pairs_are_those_of_the_world() -> None:
    dataset = open_dataset(config_of({"synthetic": 6, "seed": 4}, flip=1.0), "train", 1, True)
    plain = open_dataset(config_of({"synthetic": 6, "seed": 4}), "train", 1, False)
    rigid_share = []
    for i in range(6):
        pair, item = random_pairs(1, 48, 64, 4 * 1_000_003 + i), plain[i]
        assert (item.image_a - pair.image_a).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(item.truth.flow_ab, pair.flow_ab)
        assert torch.equal(item.truth.visible_a, pair.visible_a)
        assert torch.equal(item.truth.depth_a.isnan(), pair.depth_a.isinf())
        for x in (item, dataset[(0, i)]):
            rigid = rigid_flow(x.truth.depth_a.double(), x.truth.T_ba, x.K)
            error = (rigid - x.truth.flow_ab).norm(dim=1)[x.truth.depth_a.isfinite()[:, 0]]
            rigid_share.append(float((error < 0.05).float().mean()))
    assert np.median(rigid_share) > 0.97  # but for what moves on its own
    assert min(rigid_share) > 0.5
    assert not torch.equal(plain[0].image_a, plain[1].image_a)
    other = open_dataset(config_of(val=[{"synthetic": 6, "seed": 5}], train=[]), "val", 1, False)
    assert not torch.equal(plain[0].image_a, other[0].image_a)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "/no/such/place"}, r"^data\.train\[0\], /no/such/place: no such file.*; data\.root is"),
        ({"path": "NOISE", "calib": "/no/calib.yaml"}, r"train\[0\].*/no/calib.yaml: no such file"),
        ({"path": "NOISE", "poses": "/no/poses.txt"}, r"train\[0\].*poses.txt"),
        ({"path": "NOISE", "depth": "/no/depth"}, r"train\[0\].*no such folder of depth"),
        ({"path": "NOISE", "start": 50}, r"train\[0\].*beyond the end"),
        ({"path": "NOISE", "stride": 7}, r"train\[0\].*no pair with stride 7"),
    ],
)
def test_wrong_sources_are_named(noise, source, message) -> None:
    source = {key: str(noise) if value == "NOISE" else value for key, value in source.items()}
    with pytest.raises(TrianflowError, match=message):
        open_dataset(config_of(source), "train", 1, False)


def test_a_source_without_calibration(noise) -> None:
    (noise / "calib.yaml").unlink()
    with pytest.raises(UsageError, match=r"train\[0\].*no calibration beside"):
        open_dataset(config_of({"path": str(noise)}), "train", 1, False)
    with pytest.raises(UsageError, match="no source for val"):
        open_dataset(config_of({"path": str(noise)}), "val", 1, False)


@pytest.mark.data
def test_kitti(shared_data, tmp_path, monkeypatch) -> None:
    """The motion of the truth explains the flow, and the standstill at the beginning is found."""
    monkeypatch.chdir(tmp_path)
    folder = shared_data / "kitti_odom_07_000-159"
    source = {"path": str(folder), "poses": str(folder / "poses.txt"), "end": 24}
    config = DataConfig(size=(416, 128), train=[source], min_motion=0.0055, flip=1.0)
    plain, mirrored = open_dataset(config, "train", 1, False), open_dataset(config, "train", 1, True)
    assert 10 < len(plain) < 23
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for dataset in (plain, mirrored):
        item = dataset[(0, len(dataset) - 1)]
        assert torch.equal(item.image_a[:, 0], item.image_a[:, 2])
        a, b = (x[0, 0].mul(255).round().byte().numpy() for x in (item.image_a, item.image_b))
        field = flow.calc(a, b, None)
        y, x = np.mgrid[40:128:4, 0:416:4].reshape(2, -1)
        p_a = np.stack([x, y, np.ones_like(x)], -1).astype(float)
        p_b = p_a + np.concatenate([field[y, x], np.zeros((len(x), 1))], 1)
        T, K_inv = item.truth.T_ba[0].numpy(), np.linalg.inv(item.K[0].numpy())
        t = T[:3, 3]
        cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
        F = K_inv.T @ cross @ T[:3, :3] @ K_inv
        lines = p_a @ F.T
        distance = np.abs((lines * p_b).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
        assert np.median(distance) < 0.15
