"""Preparation in the process of the test: starting others takes longer than the work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from trianflow.data import prepared, prepared_parts


class _Here:
    """Stands in for a pool of processes."""

    def __init__(self, processes: int, context: object, begin: object, arguments: tuple[list[prepared_parts.Job]]):
        (prepared_parts._jobs,) = arguments

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *error: object) -> None:
        prepared_parts._jobs = []

    def submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **options: bool) -> None:
        """Nothing is running."""


def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `prepare_sequences` do the parts at once, in this process."""
    monkeypatch.setattr(prepared, "ProcessPoolExecutor", _Here)
