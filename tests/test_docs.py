"""The documentation against the code: commands, settings, messages, links, examples, and the build itself."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from trianflow.cli import _parse
from trianflow.config import MatchConfig, OdometryConfig, TwoViewConfig, WindowConfig, load_settings
from trianflow.data.calibration import read_calibration
from trianflow.training.config import TrainConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]


def generated() -> Any:
    """The hook that makes parts of pages."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "hooks" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a language in a page, without what is included from files."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for _, text in found if "--8<--" not in text]


def command_lines() -> list[tuple[str, list[str]]]:
    """Every command line of the program in the pages and in its own help: where it stands, and its words."""
    texts = [(page.name, text) for page in PAGES for text in blocks(page, "sh")]
    examples = re.findall(r"^  (trianflow .*)$", generated().command_texts(), re.MULTILINE)
    found = []
    for name, text in [*texts, ("--help", "\n".join(examples))]:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "trianflow" in words and words[0] in ("trianflow", "python", "torchrun"):
                found.append((name, words[words.index("trianflow") + 1 :]))
    return found


def test_every_command_line_is_one_that_the_program_takes() -> None:
    lines = command_lines()
    assert len(lines) > 60
    for place, words in lines:
        try:
            args = _parse(words)
        except SystemExit as stopped:  # 0: --help
            if stopped.code:
                pytest.fail(f"{place}: trianflow {shlex.join(words)}")
            continue
        overrides = getattr(args, "overrides", [])
        if args.command == "vo":
            load_settings(OdometryConfig(), None, overrides)
        elif args.command == "train" and (ROOT / args.config).is_file():
            load_settings(TrainConfig(), ROOT / args.config, overrides)


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def test_commands_and_options_in_the_text_exist() -> None:
    helps = generated().command_texts()
    options = options_in(helps + (DOCS / "calibrate_camera.py").read_text())
    sections = dict(re.findall(r"^##+ ([a-z ]+)\n(.*?)(?=^##|\Z)", helps, re.DOTALL | re.MULTILINE))
    of_command = {name: options_in(text) for name, text in sections.items()}
    assert "--mesh" in of_command["vo"] - of_command["view"]
    for page in PAGES:
        text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`\n]+)`", text):
            if code.startswith(("trianflow --", "--")) or re.match(r"trianflow [a-z]", code):
                words = re.match(r"(?:trianflow )?([a-z]+(?: [a-z]+)?)?", code)
                named = words[1] or "" if words else ""
                command = next((name for name in (named, named.split(" ")[0]) if name in of_command), "")
                assert options_in(code) <= of_command.get(command, options), f"{page.name}: {code}"


@cache
def literals() -> tuple[str, ...]:
    """Every text in the source of the package, with an ellipsis for what is put into it."""
    found = []
    for file in (ROOT / "trianflow").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def quoted_messages() -> list[str]:
    lines = (DOCS / "troubleshooting.md").read_text().splitlines()
    return [match[2].strip() for line in lines if (match := re.fullmatch(r"(``?)([^`].*)\1", line))]


@pytest.mark.parametrize("message", quoted_messages())
def test_messages_are_still_said(message: str) -> None:
    parts = [part for part in message.split("…") if part.strip()]
    assert sum(map(len, parts)) > 7
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert any(pattern.search(text) for text in literals()), message


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as mkdocs makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        other = page if not file else page.parent / file
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name}: {target}"


def test_pictures_are_small_and_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size < 250_000, picture
        assert f"images/{picture.name}" in text, picture


def test_blocks_of_yaml_are_settings_or_mappings() -> None:
    for page in PAGES:
        for text in blocks(page, "yaml"):
            assert isinstance(yaml.safe_load(text), dict), page


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    for text in blocks(page, "python"):
        code = compile(text.replace('"assets/demo.mp4")', '"assets/demo.mp4", end=5)'), str(page), "exec")
        if "/data/" not in text:
            exec(code, {})


def test_every_setting_stands_in_the_table_with_its_words() -> None:
    table = generated().settings_tables("trianflow.config:OdometryConfig")
    rows = {cells[1].strip(" `"): cells for line in table.splitlines() if len(cells := line.split("|")) == 6}
    groups: dict[str, type[BaseModel]] = {
        "": OdometryConfig,
        "matches.": MatchConfig,
        "two_view.": TwoViewConfig,
        "window.": WindowConfig,
    }
    expected = {
        f"{prefix}{key}": field.description
        for prefix, model in groups.items()
        for key, field in model.model_fields.items()
        if field.description
    }
    assert len(expected) > 30
    for key, description in expected.items():
        assert rows[key][4].strip() == description
    assert rows["matches.count"][2].split("<br>") == [" 6000", "fast: 2000 "]
    assert rows["scale"][3].strip() == "`auto`, `depth`, `structure`, `unit`"
    assert rows["two_view.candidates"][3].strip() == "≥ 1, ≤ 16"


def chessboard(K: np.ndarray, distortion: list[float], R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """What a camera of 640 x 360 pixels sees of a board of 10 x 7 squares of side 1 at R X + t, by ray casting."""
    height, width, px = 360, 640, 60
    squares = np.indices((7, 10)).sum(0) % 2 * 255
    board = np.pad(squares.repeat(px, 0).repeat(px, 1), px, constant_values=255).astype(np.uint8)
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float64)
    rays = cv2.convertPointsToHomogeneous(cv2.undistortPoints(pixels, K, np.array(distortion)))[:, 0] @ R
    centre = -R.T @ t
    X = centre + rays * (-centre[2] / rays[:, 2:])
    x, y = ((X[:, i].reshape(height, width) + 1) * px - 0.5 for i in (0, 1))
    smooth = cv2.GaussianBlur(board, (0, 0), 1.5)
    return cv2.remap(smooth, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderValue=128)


def test_calibration_script_finds_the_camera(tmp_path: Path) -> None:
    K = np.array([[520.0, 0, 322.0], [0, 521.0, 176.0], [0, 0, 1]])
    distortion = [-0.12, 0.05, 0.001, -0.0005]
    rng = np.random.default_rng(0)
    for i in range(24):
        R, _ = cv2.Rodrigues(rng.uniform(-0.5, 0.5, 3))
        z = rng.uniform(10, 17)
        t = z * np.array([*rng.uniform(-0.2, 0.2, 1), *rng.uniform(-0.1, 0.1, 1), 1]) - R @ [5.0, 3.5, 0]
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), chessboard(K, distortion, R, t))
    out = tmp_path / "calib.yaml"
    words = [*map(str, sorted(tmp_path.glob("*.png"))), "--corners", "9", "6", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, DOCS / "calibrate_camera.py", *words], capture_output=True, text=True, check=True
    )
    assert "views, error 0." in done.stdout
    camera = read_calibration(out)
    assert (camera.width, camera.height) == (640, 360)
    np.testing.assert_allclose([camera.fx, camera.fy], [520, 521], rtol=0.005)
    np.testing.assert_allclose([camera.cx, camera.cy], [322, 176], atol=2)
    np.testing.assert_allclose(camera.distortion[:2], distortion[:2], atol=0.03)


@pytest.mark.slow
def test_documentation_builds_strictly(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
        pytest.importorskip(module, reason="no mkdocs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert "two_view.threshold" in pages["settings.html"]
    assert "--camera-height" in pages["commands.html"]
    assert "trianflow.odometry.pipeline.VisualOdometry.track" in pages["api/odometry.html"]
    foreign = [
        src for text in pages.values() for src in re.findall(r"(?:src|href)=\"(https?://[^\"]+\.(?:js|css))", text)
    ]
    assert not foreign
