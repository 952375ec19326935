"""Settings of a training as options, under one heading each: algorithm, environment, network, encoders, run."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from tyro.conf import arg

from agents.config import TrainConfig
from agents.settings import EncoderSettings, EnvironmentSettings, NetworkSettings, RunSettings
from scripts.command_line.options import options_of, parse, value_of
from scripts.runner.settings import defaults

GROUPS: dict[str, type] = {
    "environment": EnvironmentSettings, "network": NetworkSettings, "encoders": EncoderSettings, "run": RunSettings,
}  # fmt: skip
"""Heading in the help -> the dataclass whose fields it holds; fields of no group are the algorithm's."""
Command = TypeVar("Command")


@dataclass(frozen=True)
class Parsed(Generic[Command]):
    """Options of a command, and the settings of a training."""

    command: Command
    """Options of the command itself."""
    config: TrainConfig


@dataclass(frozen=True)
class NoOptions:
    """Options of a command that has none but settings."""


def train_settings(algorithm: str, env_id: str, preset: str | None, words: Sequence[str]) -> TrainConfig:
    """Return the settings of a training: the preset, with the options `words`, checked."""
    base = defaults(algorithm, env_id, preset, value_of("--core", words))
    config = parse_with_settings(NoOptions, base, words, prog=algorithm).config
    config.validate()
    return config


def parse_with_settings(
    command: type[Command], config: TrainConfig, words: Sequence[str], *, prog: str, owner: str = ""
) -> Parsed[Command]:
    """Return a command's own options, and `config` with every setting that `words` change; names as for `parse`.

    The help shows the command's options, the settings by group, and last the groups of the command.
    """
    hints, documents = get_type_hints(command, include_extras=True), documentation(command)
    own: list[tuple[str, Any, Any]] = []
    for each in fields(command):  # type: ignore[arg-type]
        hint = hints[each.name]
        default = field(default=each.default, default_factory=each.default_factory)  # type: ignore[call-overload]
        own.append(
            (each.name, hint if is_dataclass(hint) else Annotated[hint, arg(help=documents[each.name])], default)
        )
    last = [entry for entry in own if is_dataclass(entry[1])]
    empty = {each.name for each in fields(config) if getattr(config, each.name) in ("", (), {})}
    groups = grouped(type(config), {option.name.replace("-", "_") for option in options_of(command)}, empty)
    settings = [
        (name, kind, field(default=kind(*(getattr(config, each.name) for each in fields(kind)))))
        for name, kind in groups.items()
    ]
    kind = make_dataclass("Options", [*(entry for entry in own if entry not in last), *settings, *last], kw_only=True)
    parsed: Any = parse(kind, words, prog=prog, owner=owner)
    changed = {each.name: getattr(getattr(parsed, name), each.name) for name in groups for each in fields(groups[name])}
    return Parsed(command(**{name: getattr(parsed, name) for name, *_ in own}), replace(config, **changed))


def grouped(config: type[TrainConfig], without: set[str], empty: Collection[str] = ()) -> dict[str, type]:
    """Return a dataclass for each heading, with the fields of `config` that belong there, but for those `without`.

    The help shows no default of the `empty` ones.
    """
    hints, documents = get_type_hints(config), documentation(config)
    owners = {name: heading for heading, kind in GROUPS.items() for name in get_type_hints(kind)}
    headings: dict[str, list[str]] = {"algorithm": [], **{heading: [] for heading in GROUPS}}
    for name in _own_first(config):
        if name not in without:
            headings[owners.get(name, "algorithm")].append(name)
    return {
        heading: make_dataclass(
            heading,
            [(name, Annotated[hints[name], _argument(documents.get(name, ""), name in empty)]) for name in names],
            namespace={"__doc__": ""}, frozen=True,
        )
        for heading, names in headings.items()
    }  # fmt: skip


def _argument(text: str, empty: bool) -> Any:
    """Return the help of an option, without the default if that is empty."""
    return arg(help=text, help_behavior_hint="") if empty else arg(help=text)


def _own_first(config: type[TrainConfig]) -> list[str]:
    """Return the names of all fields: groups in their order, the algorithm's own fields before inherited ones."""
    groups = set(GROUPS.values())
    classes = sorted(config.__mro__, key=lambda kind: kind in groups)
    known = {each.name for each in fields(config)}
    return list(
        dict.fromkeys(name for kind in classes for name in vars(kind).get("__annotations__", ()) if name in known)
    )


def documentation(kind: type) -> Mapping[str, str]:
    """Return the docstring below each field of a dataclass, bases included."""
    documents: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        documents |= _own_documentation(each)
    return documents


@functools.cache
def _own_documentation(kind: type) -> dict[str, str]:
    """Return the docstring below each field of the class itself; parsing its source takes milliseconds."""
    try:
        body: Any = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # a class made while running has no source
        return {}
    documents = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = getattr(below.value, "value", None)
            if isinstance(text, str):
                documents[ast.unparse(statement.target)] = " ".join(text.split())
    return documents
