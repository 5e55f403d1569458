"""`trianflow weights`: list, show, verify, import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trianflow import weights
from trianflow.errors import TrianflowError
from trianflow.flow.pwc import PWCNet


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as of the first stage; not to be changed."""
    flow = PWCNet()
    state = {f"fpyramid.{key}": value for key, value in flow.pyramid.state_dict().items()}
    state |= {f"pwc_model.{key}": value for key, value in flow.decoder.state_dict().items()}
    path = tmp_path_factory.mktemp("published") / "last.pth"
    torch.save({"iteration": 1, "model_state_dict": state}, path)
    return path


def test_import_and_show(published: Path, tmp_path: Path, trianflow) -> None:
    out = tmp_path / "flow.safetensors"
    result = trianflow("weights", "import", published, "--half", "--out", out)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{out}: flow, 10.3 MB\n"
    card = json.loads(out.with_suffix(".json").read_text())
    assert (card["name"], card["description"], card["channels"]) == ("flow", "imported from last.pth", "bgr")
    result = trianflow("weights", "show", out)
    assert result.code == 0
    rows = dict(line.split("  ", 1) for line in result.out.splitlines())
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    assert rows["flow network"] == "98 tensors, 5,134,324 parameters"
    assert rows["networks"] == '{"flow": {"normalize_features": false}}'
    assert rows["sha256"] == card["sha256"]
    assert "depth network" not in rows


def test_verify(published: Path, tmp_path: Path, trianflow) -> None:
    result = trianflow("weights", "verify")
    assert (result.code, result.err) == (0, "")
    assert "driving: flow + depth, sha256 as on its card\n" in result.out
    good, bad, broken = (tmp_path / f"{name}.safetensors" for name in ("good", "bad", "broken"))
    for file in (good, bad):
        assert trianflow("weights", "import", published, "-q", "--out", file).code == 0
    content = bytearray(bad.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    state = load_file(good)
    state["flow.decoder.conv2_0.0.bias"][0] = torch.nan
    save_file(state, broken)
    result = trianflow("weights", "verify", good, bad, broken, "nowhere")
    assert result.code == 1
    assert result.out == f"{good}: flow, sha256 as on its card\n"
    assert f"{bad}: damaged" in result.err
    assert f"{broken}: NaN or infinite numbers in " in result.err
    assert "no bundled weights are called 'nowhere'" in result.err
    assert "3 of 4 weights are not whole" in result.err


def test_import_lands_beside_the_checkpoint(published: Path, trianflow) -> None:
    for _ in range(2):  # the second time in the place of the first
        result = trianflow("weights", "import", published, "-q")
        assert (result.code, result.out, result.err) == (0, "", "")
    assert published.with_suffix(".safetensors").stat().st_size > 20e6
    assert published.with_suffix(".json").is_file()


def test_verbose_import_lists_every_key(tmp_path: Path, trianflow) -> None:
    path = tmp_path / "x.pth"
    torch.save({f"fpyramid.a{i}": torch.zeros(1) for i in range(20)}, path)
    result = trianflow("weights", "import", path)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "98 missing (fpyramid.conv1.0.weight, " in result.err
    assert "; 20 extra (fpyramid.a0, fpyramid.a1, fpyramid.a2, fpyramid.a3 and 16 more)" in result.err
    lines = trianflow("weights", "import", path, "-v").err.splitlines()
    assert [line for line in lines if line.startswith("extra: ")] == [f"extra: fpyramid.a{i}" for i in range(20)]
    assert sum(line.startswith("missing: ") for line in lines) == 98
    assert not path.with_suffix(".safetensors").exists()


def test_failures_are_one_line(published: Path, tmp_path: Path, trianflow) -> None:
    cases = [
        (("show", "nothing-of-this-name"), 2, "no bundled weights are called 'nothing-of-this-name'"),
        (("show", tmp_path / "x.safetensors"), 1, "cannot read"),
        (("show", published), 2, f"trianflow weights import {published}"),
        (("import", tmp_path / "x.pth"), 1, "cannot read: No such file"),
        (("import", published, "--out", tmp_path / "x.bin"), 2, "weight files end in .safetensors"),
    ]
    for words, code, text in cases:
        result = trianflow("weights", *words)
        assert result.code == code, words
        assert result.out == ""
        assert len(result.errors) == len(result.err.splitlines()) == 1
        assert text in result.err
    assert trianflow("weights").code == 2


def test_list(published: Path, tmp_path: Path, trianflow, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()

    def find(name: str) -> Path:
        if not (tmp_path / name).is_file():
            raise TrianflowError("not found")
        return tmp_path / name

    monkeypatch.setattr(weights, "find_asset", find)
    result = trianflow("weights", "list")
    assert result.code == 0
    assert result.out.startswith("no weights are bundled; ")
    assert trianflow("weights", "list", "--json").out == "[]\n"
    assert trianflow("weights", "import", published, "--out", folder / "a.safetensors").code == 0
    manifest = {"street": {"file": "a.safetensors", "sha256": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert trianflow("weights", "list").out == "street  flow          imported from last.pth\n"
    (entry,) = json.loads(trianflow("weights", "list", "--json").out)
    assert (entry["name"], entry["file"]) == ("street", str(folder / "a.safetensors"))
    assert entry["networks"] == {"flow": {"normalize_features": False}}
    assert "damaged, or not the file of its card" in trianflow("weights", "show", "street").err
