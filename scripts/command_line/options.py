"""Options of commands: a dataclass becomes the command line, and a mistake one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import Positional
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from agents.annotations import in_words
from agents.setting_names import OLD_NAMES, OLD_SWITCHES, closest
from scripts.command_line.errors import UsageError

T = TypeVar("T")
SUFFIXES = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6}
TYPES = ConstructorRegistry()
"""Types with parsing rules of our own: whole numbers and pairs."""
MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
"""Flat options, documented by docstrings only."""


def parse(
    kind: type[T], argv: Sequence[str], *, prog: str, owner: str = "", default: T | None = None, description: str = ""
) -> T:
    """Return `kind` filled from the command line; print the help and exit where `argv` asks for it.

    Fields that are dataclasses are headings in the help, and their own fields flat options. Every field needs a
    default, its own or that of the instance `default`. Raises UsageError, in one line, for every mistake; the line
    calls the command `owner`, by default `prog`.
    """
    if asks_for_help(argv):
        _cli(kind, ["--help"], default, prog=prog, description=description)
    words = canonical(kind, argv, owner or prog)
    parsed = _try(kind, words, default)
    if parsed is None:
        raise UsageError(_complaint(kind, words, default))
    value, rest = parsed
    if rest:
        raise UsageError(f"cannot read {rest[0]}; options begin with --")
    return value


def asks_for_help(argv: Sequence[str]) -> bool:
    """Return whether the command line asks for help."""
    return "-h" in argv or "--help" in argv


def value_of(option: str, argv: Sequence[str]) -> str | None:
    """Return the last value of an option that decides which options a command has; None without one."""
    result = None
    for first, *values in split(argv):
        name, equals, value = first.partition("=")
        if name == option:
            result = value if equals else (values[0] if values else None)
    return result


@dataclass(frozen=True)
class Option:
    """An option of a command."""

    name: str
    """Without the dashes, with hyphens."""
    type: Any
    positional: bool


def options_of(kind: type) -> list[Option]:
    """Return the options that a dataclass gives a command, groups included."""
    assert is_dataclass(kind)
    hints = get_type_hints(kind, include_extras=True)
    options: list[Option] = []
    for field in fields(kind):
        hint = hints[field.name]
        extras = getattr(hint, "__metadata__", ()) if get_origin(hint) is Annotated else ()
        plain = get_args(hint)[0] if extras else hint
        if is_dataclass(plain):
            options += options_of(plain)  # type: ignore[arg-type]
            continue
        names = [name for extra in extras if (name := getattr(extra, "name", None))]
        options.append(Option((names or [field.name])[0].replace("_", "-"), plain, Positional in extras))
    return options


def split(argv: Sequence[str]) -> list[list[str]]:
    """Split a command line into options with their values; the words before the first option are one part."""
    parts: list[list[str]] = []
    for word in argv:
        if _is_option(word) or not parts:
            parts.append([word])
        else:
            parts[-1].append(word)
    return parts


def _is_option(word: str) -> bool:
    """Return whether a word is an option; negative numbers are values."""
    try:
        float(word)
    except ValueError:
        return len(word) > 1 and word.startswith("-")
    return False


def option_names(argv: Sequence[str]) -> set[str]:
    """Return the names of the options on a command line, without dashes and values."""
    return {part[0].split("=")[0].lstrip("-").replace("_", "-") for part in split(argv) if _is_option(part[0])}


def canonical(kind: type, argv: Sequence[str], owner: str) -> list[str]:
    """Return the words with every option under its own name; UsageError for one that the command does not have."""
    options = {option.name: option for option in options_of(kind) if not option.positional}
    switches = {name for name, option in options.items() if option.type is bool}
    names = [*options, *(f"no-{name}" for name in switches)]
    words = []
    for first, *rest in split(argv):
        written, equals, value = first.partition("=")
        name = written.removeprefix("--").replace("_", "-")
        if name not in names:
            name = OLD_NAMES.get(name, name)
        instead, on_value, off_value = OLD_SWITCHES.get(name.removeprefix("no-"), ("", "", ""))
        if not _is_option(first):
            words.append(first)
        elif name not in names and instead in names:
            on = (not equals or _is_true(written, value)) != name.startswith("no-")
            words += [f"--{instead}", on_value if on else off_value]
        elif name not in names:
            raise UsageError(f"{owner} has no option {written}{closest(name, names, '--') or '; see --help'}")
        elif equals and (name in switches or name.removeprefix("no-") in switches):  # as a W&B agent writes it
            switch = name if name in switches else name.removeprefix("no-")
            words.append(f"--{switch}" if _is_true(written, value) == (name in switches) else f"--no-{switch}")
        else:
            words.append(f"--{name}{equals}{value}")
        words += rest
    return words


def _is_true(option: str, value: str) -> bool:
    """Return the value of a switch; UsageError for another than true or false."""
    if value.lower() not in ("true", "false"):
        raise UsageError(f"{option} takes true or false, not {value}")
    return value.lower() == "true"


def _cli(kind: type[T], words: Sequence[str], default: T | None, **more: Any) -> tuple[T, list[str]]:
    instance: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind, args=list(words), return_unknown_args=True, config=MARKERS, registry=TYPES, **instance, **more
    )


def _try(kind: type[T], words: Sequence[str], default: T | None) -> tuple[T, list[str]] | None:
    """Return the value and the words left over, or None where tyro refuses a value; its message, a box, is dropped."""
    dropped = io.StringIO()
    try:
        with contextlib.redirect_stderr(dropped), contextlib.redirect_stdout(dropped):
            return _cli(kind, words, default, console_outputs=False)
    except SystemExit:
        return None


def _complaint(kind: type[T], words: Sequence[str], default: T | None) -> str:
    """Return why tyro refuses the words, found by trying each option on its own."""
    types = {option.name: option.type for option in options_of(kind)}
    for first, *values in split(words):
        if _is_option(first) and _try(kind, [first, *values], default) is None:
            name, equals, value = first.partition("=")
            given = " ".join([value] * bool(equals) + values)
            return f"{name} takes {in_words(types.get(name[2:]))}" + (f", not {given}" if given else "")
    return f"cannot read {' '.join(words)}"


def integer(text: str) -> int:
    """Return a whole number written as 1000000, 1_000_000, 1e6, 1M or 10k; raise ValueError for any other text."""
    factor = SUFFIXES.get(text[-1:], 1)
    try:
        value = Decimal(text[:-1] if factor > 1 else text) * factor
    except ArithmeticError as error:
        raise ValueError(text) from error
    if not value.is_finite() or abs(value) > 10**30 or value != int(value):
        raise ValueError(text)
    return int(value)


def _simple(metavar: str, read: Callable[[list[str]], Any], kind: type, nargs: Any = 1, write: Any = None) -> Any:
    return PrimitiveConstructorSpec(
        nargs=nargs, metavar=metavar, instance_from_str=read, is_instance=lambda value: type(value) is kind,
        str_from_instance=write or (lambda value: [f"{value:_}"]),
    )  # fmt: skip


@TYPES.primitive_rule
def _whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    return _simple("INT", lambda words: integer(words[0]), int) if info.type is int else None


@TYPES.primitive_rule
def _pairs(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read the arguments of an environment: NAME VALUE NAME VALUE, numbers and True or False as such."""
    if info.type_origin is not dict:
        return None

    def read(words: list[str]) -> dict[str, int | float | bool | str]:
        if len(words) % 2:
            raise ValueError("not in pairs")
        return {name: plain(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    return _simple(
        "[NAME VALUE]...", read, dict, "*", lambda pairs: [str(word) for pair in pairs.items() for word in pair]
    )


def plain(word: str) -> int | float | bool | str:
    """Return a word as the number or the bool that it is, otherwise as it is."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return {"True": True, "False": False}.get(word, word)
