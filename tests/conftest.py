"""Shared fixtures: one thread per test process, and the licensed data where it is present."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def shared_data() -> Path:
    """The data folder (`TRIANFLOW_DATA`, or `../shared/data` beside the checkout); skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRIANFLOW_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"licensed test data not found at {folder} (set TRIANFLOW_DATA)")
    return folder
