"""Configuration of photometric depth-pose learning: every idea of the papers a switch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from trianflow.config import Settings
from trianflow.pose.kinds import PoseEncoder, Rotation


class PhotometricWeights(Settings):
    """Weights of the terms; one of weight zero is left out. A file gives them as a whole."""

    whole: ClassVar[bool] = True

    photometric: float = Field(1.0, ge=0, description="the target against what the sources show of it")
    smooth: float = Field(0.0, ge=0, description="smoothness of depth, halved from one size to the next coarser")
    explainability: float = Field(0.0, ge=0, description="cross-entropy of the predicted masks with ones")
    disparity: float = Field(0.0, ge=0, description="mean inverse depth, for the shadows of occlusions")
    velocity: float = Field(0.0, ge=0, description="translation against the way that speeds tell, metres")
    depth_consistency: float = Field(0.0, ge=0, description="reprojected depth against the other image's (TrianFlow)")
    rigid_flow: float = Field(0.0, ge=0, description="flow against that of depth and pose, pixels (TrianFlow)")
    flow: float = Field(0.0, ge=0, description="what the flow network learns from: 0.15 L1 + 0.85 SSIM + 10 smoothness")

    @property
    def need_depth(self) -> bool:
        """Whether a term looks at depth: one always does."""
        return True


class PhotometricConfig(Settings):
    """The networks, and how the terms are formed."""

    depth: Literal["dispnet", "resnet18"] = Field("resnet18", description="network of SfMLearner or Monodepth2")
    pose: PoseEncoder = Field(
        "resnet18", description="of two images as in SfMLearner (plain) or Monodepth2 (resnet18), or of flow"
    )
    rotation: Rotation = Field("axis_angle", description="what the pose network's three numbers are")
    alignment: Literal["off", "identity", "network"] = Field(
        "off", description="pose by direct alignment in place of the network's, from no motion or from it (DDVO)"
    )
    explain: bool = Field(False, description="predict masks of what the other image explains (SfMLearner)")
    scales: int = Field(4, ge=1, le=4, description="sizes of the disparity that teach")
    upscale: bool = Field(False, description="compare at full size at every scale, not at the size of the disparity")
    ssim: float = Field(0.85, ge=0, le=1, description="structural share of the photometric error; 0 is L1")
    reduction: Literal["average", "minimum"] = Field("average", description="of the errors of the sources at a pixel")
    auto_mask: bool = Field(False, description="leave out pixels that the unmoved source explains better")
    both_ways: bool = Field(
        False, description="put the other images together from the target as well, for half of the loss (Multi-mask)"
    )
    multi_mask: bool = Field(False, description="leave out pixels that depth and pose say are hidden (Multi-mask)")
    smooth_of: Literal["disparity", "depth"] = Field("disparity", description="what is to be smooth")
    smooth_kind: Literal["second_order", "edge_aware"] = Field(
        "edge_aware", description="second derivatives, or first ones where the image has no edge"
    )
    smooth_normalized: bool = Field(True, description="over its mean, so that a smaller depth is no smoother")
    normalize_depth: bool = Field(False, description="inverse depth over its mean, before all terms (DDVO)")

    @model_validator(mode="after")
    def _goes_together(self) -> PhotometricConfig:
        if self.explain and self.pose != "plain":
            raise ValueError(f"explain needs the plain pose network, not {self.pose}")
        if self.explain and self.both_ways:
            raise ValueError("explain has masks of the target alone: leave both_ways out")
        if self.explain and self.alignment == "identity":
            raise ValueError("explain needs a pose network, and alignment from the identity asks none")
        return self

    def require(self, losses: PhotometricWeights) -> None:
        """Check that weights can be given to this system.

        Raises:
            ValueError: a term without what it looks at, or two that contradict each other.
        """
        if (losses.explainability > 0) != self.explain:
            raise ValueError("explain and a weight for explainability go together: give both or neither")
        if losses.velocity > 0 and self.normalize_depth:
            raise ValueError("velocity is metres, and normalize_depth takes the unit away: leave one of them out")
        if losses.disparity > 0 and self.normalize_depth:
            raise ValueError("disparity is the mean that normalize_depth takes away: leave one of them out")
        if losses.photometric + losses.depth_consistency == 0:
            raise ValueError("nothing teaches depth and pose: give photometric a weight")
        if losses.rigid_flow + losses.flow > 0 and self.pose != "flow":
            raise ValueError("rigid_flow and flow are for the pose network of flow: set pose to flow")
