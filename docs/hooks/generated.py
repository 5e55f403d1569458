"""Parts of pages that are made of the code when the documentation is built, so that they cannot differ from it.

Comments in a page are replaced:
  <!-- settings: module:Class -->  tables of the settings of a class
  <!-- sources: module:Union -->   the same of each class of a union
  <!-- commands -->                what every command prints with --help
  <!-- configs: FOLDER -->         the YAML files of a folder with their first sentences
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trianflow.cli import COMMANDS

_LIMITS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    makers: dict[str, Callable[[str], str]] = {
        "settings": settings_tables,
        "sources": sources_tables,
        "commands": lambda _: command_texts(),
        "configs": configs_table,
    }
    return re.sub(r"<!-- (\w+)(?:: (\S+))? -->", lambda match: makers[match[1]](match[2] or ""), markdown)


def settings_tables(name: str) -> str:
    """Tables of the settings of a pydantic class `module:Class`: a table for itself and one for each group in it."""
    model = _named(name)
    fast = model.preset("fast").model_dump() if hasattr(model, "preset") else {}
    return "\n".join(_tables(model, "", _defaults(model), fast))


def sources_tables(name: str) -> str:
    """Tables of the settings of each class of a union `module:Union`."""
    union = get_args(_named(name))[0]
    models = [model for part in get_args(union) if (model := _model_in(get_args(part)[0])) is not None]
    return "\n".join(f"\n**{_first_line(model)}**\n\n" + "\n".join(_tables(model, "", {}, {})) for model in models)


def _named(name: str) -> Any:
    module, _, kind = name.partition(":")
    return getattr(importlib.import_module(module), kind)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").splitlines()[0]


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """What the settings are where nothing is said."""
    found = {key: field.default for key, field in model.model_fields.items()}
    return {key: value.model_dump() if isinstance(value, BaseModel) else value for key, value in found.items()}


def _tables(model: type[BaseModel], prefix: str, defaults: dict[str, Any], fast: dict[str, Any]) -> Iterator[str]:
    groups = {key: _model_in(field.annotation) for key, field in model.model_fields.items()}
    single = {key: field for key, field in model.model_fields.items() if groups[key] is None}
    if single:
        yield "| setting | default | values | |\n|---|---|---|---|"
        for key, field in single.items():
            default = defaults.get(key, field.default)
            yield _row(prefix + key, field, default, fast.get(key, default))
    for key, group in groups.items():
        if group is not None:
            yield f"\n**`{prefix}{key}`** — {_first_line(group)}\n"
            yield from _tables(group, f"{prefix}{key}.", defaults.get(key) or _defaults(group), fast.get(key) or {})


def _row(key: str, field: FieldInfo, default: Any, fast: Any) -> str:
    shown = "" if default is PydanticUndefined else _shown(default)
    if fast != default:
        shown += f"<br>fast: {_shown(fast)}"
    return f"| `{key}` | {shown} | {_values(field)} | {field.description or ''} |"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(field: FieldInfo) -> str:
    """What a setting may be: its choices, else its limits, else its kind."""
    limits = [
        text.format(f"{limit:g}")
        for item in field.metadata
        for name, text in _LIMITS.items()
        if (limit := getattr(item, name, None)) is not None
    ]
    if any(limit.startswith("≥") for limit in limits):
        limits = [limit for limit in limits if limit != "> 0"]
    return ", ".join(_choices(field.annotation) or limits) or _kind(field.annotation)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [f"`{choice}`" for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _kind(annotation: Any) -> str:
    """`bool`, `str`, ...; of several values a list."""
    inner = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if get_origin(annotation) is tuple:
        return "list"
    kinds = {"bool": "true, false", "str": "text", "int": "whole number", "float": "number"}
    name = getattr(annotation, "__name__", "")
    return kinds.get(name) or (_kind(inner[0]) if inner else name)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The group of settings that a type is, also where it may be left out; None of a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is tuple:
        return None
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)


def command_texts() -> str:
    """A section for each command, with what it prints with `--help`."""
    os.environ["COLUMNS"], os.environ["NO_COLOR"] = "100", "1"
    parser = argparse.ArgumentParser(prog="trianflow")
    commands = parser.add_subparsers()
    for name in COMMANDS:
        importlib.import_module(f"trianflow.cli.{name}").add_parser(commands)
    return "\n".join(_section(name, found, 2) for name, found in commands.choices.items())


def _section(name: str, parser: argparse.ArgumentParser, level: int) -> str:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    text = "#" * level + f" {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
    inner = below[0].choices.items() if below else ()
    return text + "".join("\n" + _section(f"{name} {word}", found, level + 1) for word, found in inner)


def configs_table(folder: str) -> str:
    """The YAML files of a folder of the repository, and the first sentence of the comment that each begins with."""
    rows = ["| file | |", "|---|---|"]
    for file in sorted((Path(__file__).parents[2] / folder).glob("*.yaml")):
        lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
        comment = " ".join(line.lstrip("# ") for line in lines)
        rows.append(f"| `{file.name}` | {re.split(r'(?<=[.]) ', comment)[0]} |")
    return "\n".join(rows)
