"""What the two forms of NYU Depth V2 have in common: the calibration of the toolbox and the region it crops."""

from __future__ import annotations

from trianflow.geometry.camera import Camera

# Constants of the toolbox (camera_params.m, Silberman et al., ECCV 2012). Its pixel coordinates begin at 1, ours at 0:
# the principal points are one pixel less.
COLOUR = Camera(
    *(518.85790117450188, 519.46961112127485, 325.58244941119034 - 1, 253.73616633400465 - 1, 640, 480),
    (0.20796615318809061, -0.58613825163911781, 0.00072231363135888329, 0.0010479627195765181, 0.49856986684705107),
)
DEPTH = Camera(
    *(582.62448167737955, 582.69103270988637, 313.04475870804731 - 1, 238.44389626620386 - 1, 640, 480),
    (-0.099897236553084481, 0.39065324602765344, 0.0019290592870229277, -0.0019422022475975055, -0.51031725053400578),
)
# Rows 45 to 471 and columns 41 to 601, counted from 1, are those onto which the depth image projects everywhere.
CROP_LEFT, CROP_TOP, CROP_WIDTH, CROP_HEIGHT = 40, 44, 561, 427
LARGEST_DEPTH = 10.0  # metres, to which the toolbox clips
