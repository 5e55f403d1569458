"""Every reader and every fault: a message names the file and what to do about it, and all the rest is prepared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.data.in_process import work_here
from trianflow.data.datasets.registry import DATASETS, open_dataset_folder
from trianflow.data.prepared import PreparedSequence, PrepareSettings, prepare_sequences
from trianflow.errors import TrianflowError

from .planted_faults import FAULTS, READERS, Fault

REMEDY = re.compile(r"\b(unpack|download|remove|take|write|move|name|put) ")
FRAMES = 6  # of a sequence that are prepared, at most


def told(kind: str, root: Path, out: Path) -> tuple[list[str], list[str], dict[str, PreparedSequence]]:
    """The problems of a tree, what is only noted, and what became of its sequences."""
    try:
        content = open_dataset_folder(kind, root, **READERS[kind].options)
    except TrianflowError as error:
        assert READERS[kind].alone, "the rest goes on"
        return [str(error)], [], {}
    chosen = {s.name: list(range(min(len(s), FRAMES))) for s in content.sequences}
    results = prepare_sequences(content.sequences, out, PrepareSettings((64, 32), min_motion=0), chosen)
    problems = [*content.problems, *(line for result in results for line in result.problems)]
    notes = [*content.notes, *(line for result in results for line in result.notes)]
    return problems, notes, {result.name: result for result in results}


def test_the_table_is_full() -> None:
    assert READERS.keys() == DATASETS.keys()
    assert all(tuple(reader.faults) == FAULTS for reader in READERS.values())


@pytest.mark.parametrize("kind", READERS)
def test_of_a_whole_tree_nothing_is_said(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)
    READERS[kind].write(tmp_path / "root")
    problems, notes, results = told(kind, tmp_path / "root", tmp_path / "out")
    assert problems == [line for line in notes if "no calibration: guessed" not in line] == []
    assert all(result.complete for result in results.values())


@pytest.mark.parametrize("kind", READERS)
def test_where_depth_is_made_of_a_file_it_is_known(kind: str, tmp_path: Path) -> None:
    """By it a depth is found out of date."""
    READERS[kind].write(tmp_path / "root")
    for sequence in open_dataset_folder(kind, tmp_path / "root", **READERS[kind].options).sequences:
        file = sequence.depth_file(0)
        assert (sequence.depth(0) is not None) == (file is not None)
        assert file is None or file.is_file()


CELLS = [
    pytest.param(kind, fault, id=f"{kind}-{name}-{number}")
    for kind, reader in READERS.items()
    for name, faults in reader.faults.items()
    if not isinstance(faults, str)
    for number, fault in enumerate(faults)
]


@pytest.mark.parametrize(("kind", "fault"), CELLS)
def test_a_fault_is_named_with_its_remedy(
    kind: str, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    reader, root = READERS[kind], tmp_path / "root"
    reader.write(root)
    named = fault.do(root / fault.place) or root / (fault.named or fault.place)
    problems, notes, results = told(kind, root, tmp_path / "out")
    lines = problems if fault.problem else notes
    about = [line for line in lines if str(named) in line or (f"{named.parent}: " in line and named.name in line)]
    assert any(REMEDY.search(line) for line in about), lines
    assert fault.problem or not problems, "nothing is lost, the exit code is 0"
    assert not any("\n" in line for line in [*problems, *notes])
    assert not fault.unmade or not (tmp_path / "out" / fault.unmade).exists()
    assert results or reader.alone
    assert all(result.kept for result in results.values())
    if reader.whole is not None:
        assert results[reader.whole].complete
        assert results[reader.whole].kept == len(list((tmp_path / "out" / reader.whole / "images").iterdir()))


@pytest.mark.parametrize("kind", READERS)
def test_nested_folders_are_read_and_deeper_ones_are_to_be_named(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    reader.write(tmp_path / "near" / "unpacked")
    usual = open_dataset_folder(kind, tmp_path / "near" / "unpacked", **reader.options)
    nested = open_dataset_folder(kind, tmp_path / "near", **reader.options)
    assert len(nested.sequences) == len(usual.sequences)
    assert nested.problems == ()
    assert all(sequence.problems == () for sequence in nested.sequences)
    (tmp_path / "deep/1/2/3/4").mkdir(parents=True)
    (tmp_path / "near" / "unpacked").rename(tmp_path / "deep/1/2/3/4/5")
    with pytest.raises(TrianflowError, match=REMEDY) as caught:
        open_dataset_folder(kind, tmp_path / "deep", **reader.options)
    assert str(tmp_path / "deep") in str(caught.value)
