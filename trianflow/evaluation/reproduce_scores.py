"""Steps of a reproduction that predict and score."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trianflow.evaluation.reproduce_steps import DataFolder, PrepareStep, Step, prepared_files, read_json


@dataclass(frozen=True)
class Networks:
    """The weights that predictions are made with.

    Attributes:
        file: or the name of bundled ones.
        steps: that make them; none for weights that are given.
    """

    file: str
    steps: tuple[Step, ...] = ()

    def lacks(self) -> str:
        """Why they cannot be used; empty where they can, or come from a step."""
        if self.steps or not self.file.endswith(".safetensors") or Path(self.file).expanduser().is_file():
            return ""
        return f"no weights {self.file}; `trianflow weights import FILE.pth` makes them of a published checkpoint"

    def given(self) -> float | None:
        """As `Step.given`."""
        file = Path(self.file).expanduser()
        return file.stat().st_mtime if not self.steps and file.is_file() else None


class DepthStep(Step):
    """`trianflow depth` of prepared sequences: done where each has all of its frames."""

    def __init__(self, source: PrepareStep, folder: Path, out: Path, networks: Networks) -> None:
        words = ["depth", str(folder), "--weights", networks.file, "--out", str(out)]
        super().__init__("predict depth", words, (source, *networks.steps[-1:]))
        self._folder, self._out, self._networks = folder, out, networks

    def given(self) -> float | None:
        """As `Step.given`."""
        return self._networks.given()

    def made(self) -> float | None:
        """As `Step.made`."""
        times = []
        for prepared in prepared_files(self._folder)[0]:
            facts = self._out / prepared.parent.relative_to(self._folder) / "depth.json"
            values, wanted = read_json(facts), read_json(prepared)
            done = len(values.get("skipped", ())) + values.get("written", 0)
            if not values or done < wanted.get("kept", 0) or values.get("weights") != self._networks.file:
                return None
            times.append(facts.stat().st_mtime)
        return min(times, default=None)

    def lacks(self) -> str:
        """As `Step.lacks`."""
        return self._networks.lacks()


class OdometryStep(Step):
    """`trianflow vo` of a sequence of KITTI odometry: done where its report says that it was completed."""

    def __init__(self, data: DataFolder, sequence: Path, stride: int, out: Path, networks: Networks) -> None:
        words = ["vo", str(sequence), "--flow", "pwc", "--scale", "depth", "--weights", networks.file]
        words += ["--stride", str(stride)] if stride != 1 else []
        super().__init__(f"trajectory of {sequence.name}", [*words, "--out", str(out)], networks.steps[-1:])
        self._data, self._sequence, self._stride = data, sequence, stride
        self._out, self._networks = out, networks

    def given(self) -> float | None:
        """As `Step.given`."""
        return self._networks.given()

    def made(self) -> float | None:
        """As `Step.made`."""
        report = self._out / "report.json"
        values = read_json(report)
        same = values.get("config", {}).get("weights") == self._networks.file
        return report.stat().st_mtime if values.get("state") == "complete" and same else None

    def lacks(self) -> str:
        """As `Step.lacks`."""
        if lacks := self._data.lacks():
            return lacks
        if not any((self._sequence / name).is_dir() for name in ("image_2", "image_0")):
            return f"no folder {self._sequence / 'image_2'}; {self._data.remedy} into {self._data.path}"
        calibration = self._sequence / "calib.txt"
        return "" if calibration.is_file() else f"no {calibration}; unpack data_odometry_calib.zip"

    def note(self) -> str:
        """Whether frames are missing."""
        from trianflow.data.datasets.splits import ODOMETRY_LENGTHS

        images = max(self._sequence.glob("image_[02]"), default=None)
        count = 0 if images is None else sum(file.suffix == ".png" for file in images.iterdir())
        wanted = ODOMETRY_LENGTHS[self._sequence.name]
        return f"{count} of {wanted} frames are there" if 0 < count != wanted else ""


class ScoreStep(Step):
    """`trianflow eval`: done where it left its table.

    Args:
        words: without `--csv`, which is added.
        table: CSV file that it writes.
        published: name of the table of papers that it aims at.
        count: column of the table that counts what was scored, and what it must be to compare with the papers.
        uses: steps that made predictions, and truth.
        data: has the truth, where no step made it.
        truth: what of it must be there.
        archive: that has it.
        networks: where it makes the predictions itself.
    """

    def __init__(
        self,
        title: str,
        words: Sequence[str],
        table: Path,
        published: str,
        count: tuple[str, int],
        uses: tuple[Step, ...],
        data: DataFolder | None = None,
        truth: Path | None = None,
        archive: str = "",
        networks: Networks | None = None,
        modules: tuple[str, ...] = (),
    ) -> None:
        super().__init__(title, [*words, "--csv", str(table)], uses, modules)
        self.table, self.published, self._count = table, published, count
        self._data, self._truth, self._archive, self._networks = data, truth, archive, networks

    def given(self) -> float | None:
        """As `Step.given`."""
        return self._networks.given() if self._networks is not None else None

    def made(self) -> float | None:
        """As `Step.made`."""
        return self.table.stat().st_mtime if self.table.is_file() else None

    def lacks(self) -> str:
        """As `Step.lacks`."""
        lacks = self._data.lacks() if self._data is not None else ""
        if not lacks and self._truth is not None and not self._truth.exists():
            lacks = f"no {self._truth}; unpack {self._archive}"
        return lacks or (self._networks.lacks() if self._networks is not None else "")

    def note(self) -> str:
        """Whether the figures are of less than those of the papers."""
        (what, wanted), figures = self._count, self.figures()
        return (
            f"of {figures[what]:.0f} {what}, not the {wanted} of the papers"
            if figures.get(what, wanted) != wanted
            else ""
        )

    def figures(self) -> dict[str, float]:
        """The row of one's own, by the keys of the table; empty where there is none yet."""
        if not self.table.is_file():
            return {}
        with self.table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        if len(rows) < 2:
            return {}
        # before the figures the name, behind them the source
        return {key: float(value) for key, value in zip(rows[0][1:-1], rows[1][1:-1]) if value}
