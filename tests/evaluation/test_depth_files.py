"""Depth files of many images: what is opened, how truth and predictions are paired, and what is wrong with them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from trianflow.data.decoding import UnreadableImage
from trianflow.data.depth import read_depth, write_depth
from trianflow.data.prepared import FACTS
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_files import DepthPairs, open_depths, stored_scale
from trianflow.evaluation.depth_protocols import PROTOCOLS

PLAIN = PROTOCOLS["plain"]


def images(n: int) -> list[np.ndarray]:
    return [np.full((4, 6), 1 + i, np.float32) for i in range(n)]


def folder(path: Path, names: list[str], scale: float = 256) -> Path:
    path.mkdir(parents=True)
    for name, image in zip(names, images(len(names))):
        write_depth(path / name, image, scale)
    return path


# --- opening ------------------------------------------------------------------------------------------------


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    depths = open_depths(folder(tmp_path / "d", ["2.png", "10.png", "1.png"]), 256)
    assert (depths.names, depths.named, len(depths)) == (("1", "2", "10"), True, 3)
    assert [depths.read(i)[0, 0] for i in range(3)] == [3, 1, 2]


def test_the_folder_that_trianflow_depth_leaves(tmp_path: Path) -> None:
    folder(tmp_path / "out" / "depth", ["a.png"], 500)
    (tmp_path / "out" / "depth.json").write_text(json.dumps({"scale": 500}))
    for path in (tmp_path / "out", tmp_path / "out" / "depth"):
        assert stored_scale(path) == 500
        assert open_depths(path, 500).read(0)[0, 0] == 1
    (tmp_path / "out" / "depth.json").write_text("{}")
    with pytest.raises(TrianflowError, match=r"depth.json: names no scale"):
        stored_scale(tmp_path / "out")


def test_the_scale_of_a_calibration_is_that_of_the_truth(tmp_path: Path) -> None:
    path = folder(tmp_path / "seq" / "depth", ["a.png"])
    (tmp_path / "seq" / "calib.yaml").write_text("fx: 1\nfy: 1\ncx: 1\ncy: 1\ndepth_scale: 5000\n")
    assert stored_scale(path, truth=True) == 5000
    assert stored_scale(path) is None
    assert stored_scale(folder(tmp_path / "seq" / "floats", ["a.npy"]), truth=True) is None
    assert stored_scale(tmp_path / "stack.npy") is None


def test_integers_need_a_scale(tmp_path: Path) -> None:
    path = folder(tmp_path / "d", ["a.png"])
    with pytest.raises(UsageError, match=r"d: the depth is stored in integers.*with --gt-scale"):
        open_depths(path, None, truth=True)
    np.save(tmp_path / "stack.npy", np.ones((2, 4, 6), np.uint16))
    with pytest.raises(UsageError, match="stored in integers"):
        open_depths(tmp_path / "stack.npy", None)
    assert open_depths(tmp_path / "stack.npy", 4).read(1)[0, 0] == 0.25
    with pytest.raises(UsageError, match="--scale must be positive, not -1"):
        open_depths(path, -1)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder or file"):
        open_depths(tmp_path / "nowhere", 1)
    (tmp_path / "text.txt").write_text("depth")
    with pytest.raises(UsageError, match=r"text.txt: a stack of depth images is a .npy or .npz file"):
        open_depths(tmp_path / "text.txt", 1)
    with pytest.raises(TrianflowError, match="no depth files"):
        open_depths(tmp_path, 1)
    twice = folder(tmp_path / "twice", ["a.png", "a.npy"])
    with pytest.raises(TrianflowError, match="are of one image"):
        open_depths(twice, 1)


def test_folders_of_several_sequences(tmp_path: Path) -> None:
    for sequence in ("drive_2", "drive_10"):
        folder(tmp_path / "gt" / sequence / "truth", ["000007.png", "000009.png"])
        folder(tmp_path / "gt" / sequence / "depth", ["000007.png"])
        folder(tmp_path / "gt" / sequence / "images", ["000007.png", "000008.png"])
        (tmp_path / "gt" / sequence / "calib.yaml").write_text("depth_scale: 256\n")
        folder(tmp_path / "pred" / sequence / "depth", ["000009.png", "000007.png"], 500)
        (tmp_path / "pred" / sequence / "depth.json").write_text(json.dumps({"scale": 500}))
    truth = open_depths(tmp_path / "gt", stored_scale(tmp_path / "gt", truth=True), truth=True)
    assert truth.names == ("drive_2/000007", "drive_2/000009", "drive_10/000007", "drive_10/000009")
    prediction = open_depths(tmp_path / "pred", stored_scale(tmp_path / "pred"))
    found = DepthPairs(truth, prediction, PLAIN)
    assert [(pair.truth[0], pair.depth[0]) for pair in found] == [(1, 2), (2, 1), (1, 2), (2, 1)]
    assert not found.problems
    assert not truth.reduced


def test_truth_that_was_made_small_for_training_is_told_apart(tmp_path: Path) -> None:
    sequence = tmp_path / "gt" / "drive"
    folder(sequence / "depth", ["a.png"])
    assert not open_depths(tmp_path / "gt", 256, truth=True).reduced
    (sequence / FACTS).write_text("{}")
    for path in (tmp_path / "gt", sequence, sequence / "depth"):
        assert open_depths(path, 256, truth=True).reduced
        assert not open_depths(path, 256).reduced
    folder(sequence / "truth", ["a.png"])
    assert not open_depths(tmp_path / "gt", 256, truth=True).reduced


# --- stacks -------------------------------------------------------------------------------------------------


def ragged() -> np.ndarray:
    stack = np.empty(2, object)
    stack[0], stack[1] = np.full((4, 6), 1.0), np.full((5, 7), 2.0, np.float32)
    return stack


def test_stacks(tmp_path: Path) -> None:
    whole = np.stack(images(3))
    np.save(tmp_path / "n.npy", whole)
    np.save(tmp_path / "channel.npy", whole[:, None])
    np.savez(tmp_path / "one.npz", data=whole)
    for name in ("n.npy", "channel.npy", "one.npz"):
        depths = open_depths(tmp_path / name, None)
        assert (list(depths.names), depths.named) == (["#0", "#1", "#2"], False)
        np.testing.assert_array_equal(depths.read(2), whole[2])
    np.save(tmp_path / "single.npy", whole[0])
    assert len(open_depths(tmp_path / "single.npy", None)) == 1
    np.savez(tmp_path / "names.npz", b=whole[1], a=whole[0])
    named = open_depths(tmp_path / "names.npz", None)
    assert (list(named.names), named.named, named.read(1)[0, 0]) == (["a", "b"], True, 2)


def test_images_of_several_sizes(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", ragged(), allow_pickle=True)
    np.savez_compressed(tmp_path / "r.npz", data=ragged())
    for name in ("r.npy", "r.npz"):
        depths = open_depths(tmp_path / name, None)
        assert [depths.read(i).shape for i in range(2)] == [(4, 6), (5, 7)]
        assert depths.read(1).dtype == np.float32


class Harmful:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    stack = np.empty(1, object)
    stack[0] = Harmful()
    stack[0].path = str(tmp_path / "harm")
    np.save(tmp_path / "evil.npy", stack, allow_pickle=True)
    with pytest.raises(TrianflowError, match=r"evil.npy: not a readable stack .*mkdir, which is no array"):
        open_depths(tmp_path / "evil.npy", None)
    assert not (tmp_path / "harm").exists()


def test_damaged_stacks(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", np.stack(images(3)))
    np.savez(tmp_path / "n.npz", data=np.stack(images(3)))
    for name in ("n.npy", "n.npz"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 5, 100, len(whole) - 50):
            (tmp_path / f"cut{name[1:]}").write_bytes(whole[:length])
            with pytest.raises(TrianflowError, match="not a readable stack"):
                open_depths(tmp_path / f"cut{name[1:]}", None)
    np.save(tmp_path / "flat.npy", np.ones(7))
    with pytest.raises(TrianflowError, match=r"shape \(7,\); expected \(N, H, W\)"):
        open_depths(tmp_path / "flat.npy", None)
    np.savez(tmp_path / "mixed.npz", a=np.ones((2, 2)), b=np.ones((3, 2, 2)))
    with pytest.raises(TrianflowError, match="b is not one image"):
        open_depths(tmp_path / "mixed.npz", None)
    np.save(tmp_path / "empty.npy", np.ones((0, 4, 6)))
    with pytest.raises(TrianflowError, match="no depth image in it"):
        open_depths(tmp_path / "empty.npy", None)
    np.save(tmp_path / "rgb.npy", np.ones((2, 4, 6, 3)))
    with pytest.raises(UnreadableImage, match=r"shape \(4, 6, 3\)"):
        open_depths(tmp_path / "rgb.npy", None).read(0)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint16, np.uint8])
def test_a_stack_is_read_as_its_images_would_be(kind: type, tmp_path: Path) -> None:
    images = np.array([[[0, 1, 7], [200, 65535, -3]], [[1, 1, 1], [1, 1, 1]]]).astype(kind)
    scale = None if np.dtype(kind).kind == "f" else 4.0
    np.save(tmp_path / "stack.npy", images)
    for number, image in enumerate(images):
        np.save(tmp_path / "image.npy", image[..., None])
        try:
            alone = read_depth(tmp_path / "image.npy", scale)
        except UnreadableImage as error:
            with pytest.raises(UnreadableImage, match=re.escape(str(error))):
                open_depths(tmp_path / "stack.npy", scale).read(number)
        else:
            np.testing.assert_array_equal(open_depths(tmp_path / "stack.npy", scale).read(number), alone)


def test_unknown_values_of_a_stack(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.array([[[1, 0, -1, np.nan, np.inf]]]))
    np.testing.assert_array_equal(open_depths(tmp_path / "f.npy", None).read(0), [[1, 0, 0, 0, 0]])
    np.save(tmp_path / "u.npy", np.array([[[1, 0, 65535]]], np.uint16))
    np.testing.assert_array_equal(open_depths(tmp_path / "u.npy", 1).read(0), [[1, 0, 0]])


# --- pairs --------------------------------------------------------------------------------------------------


def pairs(truth: Path, prediction: Path) -> DepthPairs:
    return DepthPairs(open_depths(truth, 256, truth=True), open_depths(prediction, 256), PLAIN)


def test_paired_by_name(tmp_path: Path) -> None:
    truth = folder(tmp_path / "gt", ["a.png", "b.png", "c.png"])
    found = pairs(truth, folder(tmp_path / "pred", ["c.npy", "z.npy", "a.npy"]))
    assert [(pair.name, pair.truth[0]) for pair in found] == [("a", 1), ("c", 3)]
    assert found.partners == [0, None, 1]
    assert found.by_name
    assert found.problems == {"b": "no prediction of this name"}
    assert found.left_over == 1


def test_paired_by_order(tmp_path: Path) -> None:
    truth = folder(tmp_path / "gt", ["a.png", "b.png"])
    found = pairs(truth, folder(tmp_path / "pred", ["0.png", "1.png"]))
    assert [pair.name for pair in found] == ["a", "b"]
    assert not found.by_name
    np.save(tmp_path / "stack.npy", np.stack(images(2)) * 256)
    assert [pair.depth[0] for pair in pairs(truth, tmp_path / "stack.npy")] == [1, 2]
    np.save(tmp_path / "three.npy", np.stack(images(3)))
    with pytest.raises(TrianflowError, match=r"three.npy: 3 predictions for 2 images of truth .* no name in common"):
        pairs(truth, tmp_path / "three.npy")
    with pytest.raises(TrianflowError, match=r"\(5, a\)"):
        pairs(truth, folder(tmp_path / "other", ["5.png"]))


def test_damaged_files_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    truth = folder(tmp_path / "gt", ["a.png", "b.png", "c.png", "d.png"])
    prediction = folder(tmp_path / "pred", ["a.png", "b.png", "c.png", "d.png"])
    whole = (truth / "b.png").read_bytes()
    (truth / "b.png").write_bytes(whole[:40])
    (prediction / "c.png").write_bytes(whole[:40])
    found = pairs(truth, prediction)
    for _ in range(2):
        assert [pair.name for pair in found] == ["a", "d"]
        assert found.problems == {
            "b": "the truth: truncated PNG (ends after 40 bytes)",
            "c": "the prediction: truncated PNG (ends after 40 bytes)",
        }
