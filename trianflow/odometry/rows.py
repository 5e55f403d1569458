"""The trajectory as it grows: key frames, which later ones correct, and the rows that hang on them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


class Rows:
    """Poses of all frames in the unit of the trajectory, and the constant velocity by which the next is guessed.

    Attributes:
        key_poses: T_wc `(4, 4)` float64 of the key frames; the first is the origin, the latest may still be corrected.
        times: of the rows, seconds.
    """

    def __init__(self) -> None:
        self.key_poses: list[np.ndarray] = [np.eye(4)]
        self.times: list[float] = []
        self._hung: list[tuple[int, np.ndarray]] = []  # key frame of each row, and the pose in it as it came
        self._came: list[float] = []  # length of the step from each key frame to the next, as it came, or 0
        self._measured: int | None = None  # row that was measured last, not guessed
        self._turning, self._moving = np.zeros((2, 3))  # radians and units a second, in the camera

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, i: int) -> tuple[int, np.ndarray]:
        """Key frame of a row, and the pose `(4, 4)` in it, stretched as the step to the next key frame is."""
        key, T_kc = self._hung[i]
        T_kc = T_kc.copy()
        T_kc[:3, 3] *= self.stretch(key)
        return key, T_kc

    def stretch(self, key: int) -> float:
        """How many times as long the step from a key frame to the next is as when it came; 1 where unsure."""
        if key >= len(self._came) or not self._came[key] > 0:
            return 1.0
        way = self.key_poses[key + 1][:3, 3] - self.key_poses[key][:3, 3]
        return float(np.linalg.norm(way)) / self._came[key]

    def pose(self, i: int) -> np.ndarray:
        """T_wc `(4, 4)` of a row, as it is known now."""
        key, T_kc = self[i]
        return self.key_poses[key] @ T_kc

    def add_key(self, T_wc: np.ndarray, came: float) -> np.ndarray:
        """The frame of the coming row is the next key frame.

        Args:
            T_wc: `(4, 4)` of it.
            came: length of the step to it before it was corrected, which the rows before it have too; 0 where it was
                too short to be compared, as where the camera has turned or come back.

        Returns:
            `(4, 4)` its pose in the key frame before.
        """
        self.key_poses.append(T_wc)
        self._came.append(came)
        T_step: np.ndarray = np.linalg.inv(self.key_poses[-2]) @ T_wc
        return T_step

    def add(self, time: float, T_wc: np.ndarray, measured: bool) -> np.ndarray:
        """Take a row, whose pose was measured or guessed, and return the pose `(4, 4)` in the newest key frame."""
        T_kc: np.ndarray = np.linalg.inv(self.key_poses[-1]) @ T_wc
        self.times.append(time)
        self._hung.append((len(self.key_poses) - 1, T_kc))
        if measured:
            before, now = self._measured, len(self) - 1
            if before is not None and (seconds := time - self.times[before]) > 0:
                T = np.linalg.inv(self.pose(before)) @ T_wc
                self._turning = Rotation.from_matrix(T[:3, :3]).as_rotvec() / seconds
                self._moving = T[:3, 3] / seconds
            self._measured = now
        return T_kc

    def predict(self, time: float) -> np.ndarray:
        """T_wc `(4, 4)` by constant velocity since the last row."""
        if not self.times:
            return np.eye(4)
        seconds, T = max(time - self.times[-1], 0.0), np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(self._turning * seconds).as_matrix()
        T[:3, 3] = self._moving * seconds
        return self.pose(-1) @ T
