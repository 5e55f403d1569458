"""Names of the kinds of pose networks, for configurations: read without torch."""

from __future__ import annotations

from typing import Literal

PoseEncoder = Literal["plain", "resnet18", "flow"]  # what it looks at: two images, in two ways, or flow
Rotation = Literal["axis_angle", "euler"]  # what its three numbers of the rotation are
