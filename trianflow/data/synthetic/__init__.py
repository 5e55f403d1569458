"""A synthetic world with exact truth: depth, flow, visibility, instances and poses of roads and rooms."""

from trianflow.data.synthetic.drive import DriveKind
from trianflow.data.synthetic.paths import PathKind, camera_path
from trianflow.data.synthetic.photometry import Photometry
from trianflow.data.synthetic.scene import Scene
from trianflow.data.synthetic.sequence import SyntheticSequence
from trianflow.data.synthetic.textures import TextureBank, make_textures
from trianflow.data.synthetic.world import (
    RenderedFrames,
    RenderedPair,
    SceneKind,
    make_scene,
    random_pairs,
    render,
    render_pairs,
)

__all__ = [
    "DriveKind",
    "PathKind",
    "Photometry",
    "RenderedFrames",
    "RenderedPair",
    "Scene",
    "SceneKind",
    "SyntheticSequence",
    "TextureBank",
    "camera_path",
    "make_scene",
    "make_textures",
    "random_pairs",
    "render",
    "render_pairs",
]
