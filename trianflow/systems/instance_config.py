"""Configuration of Insta-DM: depth, the camera's motion and the motions of objects, from pairs with instance masks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from trianflow.config import Settings
from trianflow.pose.kinds import PoseEncoder, Rotation


class InstanceWeights(Settings):
    """Weights of the terms; one of weight zero is left out. A file gives them as a whole."""

    whole: ClassVar[bool] = True

    photometric: float = Field(1.0, ge=0, description="regions of one image against what the other shows of them")
    geometric: float = Field(0.5, ge=0, description="reprojected depth of the regions against the other image's")
    smooth: float = Field(0.05, ge=0, description="first-order edge-aware smoothness of depth")

    @property
    def need_depth(self) -> bool:
        """Whether a term looks at depth: one always does."""
        return True


class InstanceConfig(Settings):
    """The networks, and how the terms are formed."""

    depth: Literal["dispnet", "resnet18"] = Field("resnet18", description="network of the depth")
    pose: PoseEncoder = Field("plain", description="networks of the camera's motion and of the objects'")
    rotation: Rotation = Field("euler", description="what the three numbers of the camera's rotation are (paper)")
    objects: bool = Field(True, description="motions of objects; false is the rigid system to compare it with")
    ssim: float = Field(0.85, ge=0, le=1, description="structural share of the photometric error; 0 is the paper's L1")
    factor: PositiveInt = Field(2, description="parts along each side of a pixel in the forward projection")

    def require(self, losses: InstanceWeights) -> None:
        """Check that weights can be given to this system.

        Raises:
            ValueError: nothing teaches, or the pose network looks at flow, which there is none of.
        """
        if losses.photometric + losses.geometric == 0:
            raise ValueError("nothing teaches depth and motions: give photometric a weight")
        if self.pose == "flow":
            raise ValueError("there is no flow network: set pose to plain or resnet18")
