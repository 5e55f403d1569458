"""Configuration of what is trained: the networks, the two-view geometry between them, the weights of the losses."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt

from trianflow.config import Settings, TwoViewConfig


class LossWeights(Settings):
    """Weights of the terms; one of weight zero is left out. Names in brackets are the published ones.

    A file gives them as a whole: a term that it does not name has weight zero.
    """

    whole: ClassVar[bool] = True

    pixel: float = Field(0.0, ge=0, description="photometric, absolute difference (1 - w_ssim)")
    ssim: float = Field(0.0, ge=0, description="photometric, structural similarity (w_ssim)")
    flow_smooth: float = Field(0.0, ge=0, description="second-order edge-aware smoothness of the flow (w_flow_smooth)")
    truth: float = Field(0.0, ge=0, description="end-point error against true flow, where it is known")
    depth_truth: float = Field(0.0, ge=0, description="error of the logarithm against true depth, where it is known")
    flow_consistency: float = Field(0.0, ge=0, description="forward-backward difference (w_flow_consis)")
    epipolar: float = Field(0.0, ge=0, description="distance of near inliers to their epipolar line (w_geo)")
    triangulation: float = Field(0.0, ge=0, description="aligned depth against triangulated depth, L_d (w_pt_depth)")
    depth_consistency: float = Field(0.0, ge=0, description="reprojected depth against the other image's (w_pj_depth)")
    rigid_flow: float = Field(0.0, ge=0, description="flow against that of depth and pose (w_flow_error)")
    depth_smooth: float = Field(0.0, ge=0, description="first-order edge-aware smoothness of depth (w_depth_smooth)")

    @property
    def need_flow_losses(self) -> bool:
        """Whether a term compares the images."""
        return self.pixel + self.ssim + self.flow_smooth + self.flow_consistency > 0

    @property
    def reach_flow(self) -> bool:
        """Whether a term has a gradient for the flow network."""
        return self.need_flow_losses or self.truth + self.epipolar + self.rigid_flow + self.triangulation > 0

    @property
    def need_both_ways(self) -> bool:
        """Whether a term looks at the flow back from b to a."""
        return self.need_flow_losses or self.need_geometry

    @property
    def need_depth(self) -> bool:
        """Whether a term looks at depth, and has a gradient for its network."""
        return self.need_structure or self.depth_truth + self.depth_smooth > 0

    @property
    def need_structure(self) -> bool:
        """Whether a term compares depth with flow."""
        return self.triangulation + self.depth_consistency + self.rigid_flow > 0

    @property
    def need_geometry(self) -> bool:
        """Whether a term needs the relative pose."""
        return self.need_structure or self.epipolar > 0

    @property
    def need_flow(self) -> bool:
        """Whether a term looks at the flow."""
        return self.need_flow_losses or self.need_geometry or self.truth > 0


class GeometryConfig(Settings):
    """Flow to pose to structure, inside a training step. Lengths are pixels of the training size."""

    matches: PositiveInt = Field(6000, ge=8, description="matches for the pose, and again for the structure (paper)")
    ratio: float = Field(0.2, gt=0, le=1, description="share of the pixels that qualify, by score (paper)")
    two_view: TwoViewConfig = TwoViewConfig()
    inlier: float = Field(0.1, gt=0, description="epipolar distance that needs no further pull (published)")
    rigid: float = Field(0.5, gt=0, description="epipolar distance up to which a pixel counts as rigid (1.0 on NYUv2)")
    parallax: float = Field(0.001, gt=0, description="smallest sine of the angle between two rays (published)")
    min_points: PositiveInt = Field(100, description="triangulated points below which a pair teaches no depth")


class SystemConfig(Settings):
    """The networks of TrianFlow."""

    normalize_features: bool = Field(True, description="compare normalised features; false for published checkpoints")
    imagenet: str | None = Field(None, description=".pth of torchvision's ResNet-18 for the depth encoder")
    deepest: PositiveInt = Field(512, description="channels of the last depth features; with 256 half the weights")
    focal: float | None = Field(
        None, gt=0, description="focal length, share of the width, that true depth is brought to; default: as it is"
    )
    geometry: GeometryConfig = GeometryConfig()
