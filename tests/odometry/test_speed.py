"""Speeds from files: distances that can be computed by hand, gaps, and files that are not what they should be."""

import numpy as np
import pytest

from trianflow.errors import TrianflowError, UsageError
from trianflow.odometry.speed import SpeedFile


def written(folder, text):
    path = folder / "speed.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "0 10\n1 10\n2.5 10\n",
        "\ufeff# from the car\ntime,speed\n0, 10\n1, 10 # here\n\n2.5, 10",
        "t;v\r\n0;10\r\n1;-10\r\n2.5;1e1\r\n",
    ],
)
def test_constant_speed_in_all_spellings(tmp_path, text):
    speed = SpeedFile.load(written(tmp_path, text))
    assert speed.distance(0.0, 2.5) == pytest.approx(25.0)
    assert speed.distance(0.3, 1.7) == pytest.approx(14.0)
    assert speed.distance(1.0, 1.0) == 0.0
    assert speed.sigma(0.3, 1.7) == pytest.approx(0.14 + 0.07)


def test_ramp():
    """v = 2 t: the way is t squared."""
    times = np.array([0.0, 0.7, 1.0, 2.5, 3.0])
    speed = SpeedFile(times, 2 * times)
    for t0, t1 in ((0.0, 3.0), (0.2, 0.4), (0.7, 1.0), (0.9, 2.6)):
        assert speed.distance(t0, t1) == pytest.approx(t1**2 - t0**2)


def test_any_speeds_against_a_fine_sum():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.3, 50))
    speed = SpeedFile(times, rng.uniform(0, 20, 50))
    for t0, t1 in rng.uniform(times[0], times[-1], (20, 2)):
        t0, t1 = min(t0, t1), max(t0, t1)
        t = t0 + (np.arange(20_000) + 0.5) * (t1 - t0) / 20_000
        fine = np.interp(t, speed.times, speed.speeds).mean() * (t1 - t0)
        assert speed.distance(t0, t1) == pytest.approx(fine, rel=1e-4, abs=1e-6)


def test_nothing_is_known_outside_and_in_gaps():
    speed = SpeedFile(np.array([1.0, 2.0, 5.0, 6.0]), np.full(4, 3.0))
    for t0, t1 in ((0.9, 1.5), (5.5, 6.1), (1.5, 2.1), (2.0, 5.0), (3.0, 4.0), (1.9, 1.1)):
        assert speed.distance(t0, t1) is None
        assert speed.sigma(t0, t1) is None
    assert speed.distance(1.0, 2.0) == speed.distance(5.0, 6.0) == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1 fast\n", r":2: '1 fast' is no speed; expected rows of seconds"),
        ("0 1\n1 2 3\n", r":2: '1 2 3' is no speed"),
        ("0 1\n1 nan\n", r":2: '1 nan' is no speed"),
        ("t v\nt v\n0 1\n1 1\n", r":2: 't v' is no speed"),
        ("0 1\n2 1\n\n1 1\n", r":4: not later than the row before; sort"),
        ("0 1\n0 1\n", r":2: not later"),
        ("t v\n0 1\n", r"fewer than two speeds"),
        ("", r"fewer than two speeds"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(TrianflowError, match=message) as caught:
        SpeedFile.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def one_a_frame(folder, speeds, times):
    """As `trianflow prepare` writes them."""
    (folder / "times.txt").write_text("".join(f"{time:.9f}\n" for time in times))
    path = folder / "speeds.txt"
    path.write_text("".join("nan\n" if speed is None else f"{speed:.6f}\n" for speed in speeds))
    return path


def test_one_speed_a_frame_has_its_times_beside_it(tmp_path):
    speed = SpeedFile.load(one_a_frame(tmp_path, [None, 4, 4, None, None, -4, 4], [0, 1, 2, 3, 4.5, 5, 6]))
    assert speed.times.tolist() == [1, 2, 5, 6]
    assert speed.speeds.tolist() == [4] * 4
    assert speed.distance(1.0, 1.5) == pytest.approx(2.0)
    assert speed.distance(0.5, 1.5) is None
    assert speed.distance(1.5, 5.5) is None  # nothing is known for three seconds


@pytest.mark.parametrize(
    ("speeds", "times", "message"),
    [
        ("4\n4\n", None, r"speeds\.txt: one number a row, and no times\.txt beside it that tells when; expected rows"),
        ("4\n4\n", "0\n1\n2\n", r"times\.txt: 3 times for the 2 speeds of speeds\.txt: both must have a row a frame"),
        ("4\n4\n", "0\n0\n", r"times\.txt:2: not later"),
        ("4\n4\n", "0\nnan\n", r"times\.txt:2: 'nan': expected one number"),
        ("4\nfast\n", "0\n1\n", r"speeds\.txt:2: 'fast': expected one number"),
        ("4\n4 4\n", "0\n1\n", r"speeds\.txt:2: '4 4': expected one number"),
        ("nan\n4\n", "0\n1\n", r"speeds\.txt: fewer than two speeds"),
    ],
)
def test_bad_files_of_one_speed_a_frame(tmp_path, speeds, times, message):
    (tmp_path / "speeds.txt").write_text(speeds)
    if times is not None:
        (tmp_path / "times.txt").write_text(times)
    with pytest.raises(TrianflowError, match=message) as caught:
        SpeedFile.load(tmp_path / "speeds.txt")
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder of speeds"):
        SpeedFile.load(tmp_path / "none.csv")
    (tmp_path / "speed.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrianflowError, match=r"speed\.bin: cannot read the speeds: not a text file"):
        SpeedFile.load(tmp_path / "speed.bin")
    with pytest.raises(TrianflowError, match=r"no timestamps\.txt in it; give"):
        SpeedFile.load(tmp_path)


def write_oxts(folder, count=6):
    """A row every 0.1 s, with 3 m/s forward and 4 m/s to the left."""
    (folder / "data").mkdir(parents=True)
    row = np.arange(30.0)
    row[8:10] = 3.0, -4.0
    for i in range(count):
        (folder / "data" / f"{i:010d}.txt").write_text(" ".join(map(str, row)) + "\n")
    stamps = "".join(f"2011-09-26 13:02:25.{i}00000000\n" for i in range(count))
    (folder / "timestamps.txt").write_text(stamps)


def test_oxts(tmp_path):
    write_oxts(tmp_path / "oxts")
    (tmp_path / "oxts" / "data" / "0000000002.txt").unlink()
    (tmp_path / "oxts" / "data" / "0000000003.txt").write_text("1 2 3")
    start = np.datetime64("2011-09-26T13:02:25").astype(float)
    for folder in (tmp_path, tmp_path / "oxts"):
        speed = SpeedFile.load(folder)
        np.testing.assert_allclose(speed.times - start, [0, 0.1, 0.4, 0.5], atol=1e-6)
        assert speed.distance(start, start + 0.45) == pytest.approx(5 * 0.45, rel=1e-6)


def test_bad_oxts(tmp_path):
    write_oxts(tmp_path)
    (tmp_path / "timestamps.txt").write_text("2011-09-26 13:02:25.1\nsoon\n")
    with pytest.raises(TrianflowError, match=r"timestamps\.txt:2: no date with a time; unpack"):
        SpeedFile.load(tmp_path)
    write_oxts(tmp_path / "short", 1)
    with pytest.raises(TrianflowError, match="fewer than two files of 30 numbers; unpack"):
        SpeedFile.load(tmp_path / "short")
