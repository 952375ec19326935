"""Options of commands: a dataclass becomes the command line, and a mistake one line."""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from agents.annotations import in_words
from scripts.command_line.errors import UsageError
from scripts.command_line.names import OLD_NAMES, OLD_SWITCHES, OTHER_LIBRARIES

T = TypeVar("T")
Positional = tyro.conf.Positional
SUFFIXES = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6}
TYPES = ConstructorRegistry()
"""Types that are read in ways of our own."""
MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
"""Flat options, documented by docstrings only."""


def parse(kind: type[T], argv: Sequence[str], *, prog: str, default: T | None = None, description: str = "") -> T:
    """Return `kind` filled from the command line; print the help and exit where `argv` asks for it.

    Fields that are dataclasses are headings in the help, and their own fields flat options. Every field needs a
    default, its own or that of the instance `default`. Raises UsageError, in one line, for everything that is wrong.
    """
    if asks_for_help(argv):
        _cli(kind, ["--help"], default, prog=prog, description=description)
    words = canonical(kind, argv, prog)
    value = _try(kind, words, default)
    if value is None:
        raise UsageError(_complaint(kind, words, default))
    return value


def asks_for_help(argv: Sequence[str]) -> bool:
    """Return whether the command line asks for help."""
    return "-h" in argv or "--help" in argv


def value_of(option: str, argv: Sequence[str]) -> str | None:
    """Return the value of an option that a command reads before it knows all its options; None without one."""
    found = None
    for name, *values in split(argv):
        name, equals, value = name.partition("=")
        if name == option:
            found = value if equals else (values[0] if values else None)
    return found


@dataclass(frozen=True)
class Option:
    """An option of a command."""

    name: str
    """Without the dashes, with hyphens."""
    type: Any
    positional: bool


def options_of(kind: type) -> list[Option]:
    """Return the options that a dataclass gives a command, those of its groups included."""
    assert is_dataclass(kind)
    hints, found = get_type_hints(kind, include_extras=True), []
    for field in fields(kind):
        hint = hints[field.name]
        extras = getattr(hint, "__metadata__", ()) if get_origin(hint) is Annotated else ()
        plain = get_args(hint)[0] if extras else hint
        if is_dataclass(plain):
            found += options_of(plain)  # type: ignore[arg-type]
            continue
        names = [name for extra in extras if (name := getattr(extra, "name", None))]
        found.append(Option((names or [field.name])[0].replace("_", "-"), plain, Positional in extras))
    return found


def split(argv: Sequence[str]) -> list[list[str]]:
    """Split a command line into options with their values; what comes before the first option is a part of its own."""
    parts: list[list[str]] = []
    for word in argv:
        if _is_option(word) or not parts:
            parts.append([word])
        else:
            parts[-1].append(word)
    return parts


def _is_option(word: str) -> bool:
    """Return whether a word is an option: negative numbers are values."""
    if not word.startswith("-") or len(word) == 1:
        return False
    try:
        return word.startswith("--") or not isinstance(float(word), float)
    except ValueError:
        return True


def option_names(argv: Sequence[str]) -> set[str]:
    """Return the names of the options on a command line, without dashes and values."""
    return {part[0].split("=")[0].lstrip("-").replace("_", "-") for part in split(argv) if _is_option(part[0])}


def canonical(kind: type, argv: Sequence[str], prog: str) -> list[str]:
    """Return the words with every option under its own name; UsageError for one that the command does not have."""
    known = {option.name: option for option in options_of(kind) if not option.positional}
    switches = {name for name, option in known.items() if option.type is bool}
    words = []
    for part in split(argv):
        if not _is_option(part[0]):
            words += part
            continue
        written, equals, value = part[0].partition("=")
        name = written.lstrip("-").replace("_", "-")
        name = next((new for new in OLD_NAMES.get(name, ()) if new in known and name not in known), name)
        option, *values = OLD_SWITCHES.get(name.removeprefix("no-"), ("",))
        if option in known and value.lower() in ("", "true", "false"):
            words += [f"--{option}", values[name.startswith("no-") or value.lower() == "false"], *part[1:]]
            continue
        off = name.removeprefix("no-") if name not in known and name.removeprefix("no-") in switches else None
        if off is None and (name not in known or not written.startswith("--")):
            raise UsageError(
                f"{prog} has no option {written}{_hint(name, [*known, *(f'no-{s}' for s in switches)], prog)}"
            )
        if name in switches and equals and value.lower() in ("true", "false"):  # as a W&B agent writes it
            words.append(f"--{name}" if value.lower() == "true" else f"--no-{name}")
        elif (name in switches or off) and equals:
            raise UsageError(f"{written} takes true or false, not {value}")
        else:
            words.append(f"--{name}{equals}{value}")
        words += part[1:]
    return words


def _hint(name: str, known: Iterable[str], prog: str) -> str:
    known = list(known)
    elsewhere = [ours for ours in OTHER_LIBRARIES.get(name, ()) if ours in known]
    if elsewhere:
        return f"; it is called --{elsewhere[0]} here"
    close = difflib.get_close_matches(name, known, 1) or [each for each in known if each.startswith(name)]
    return f"; did you mean --{close[0]}?" if close else f"; see {prog} --help"


def _cli(kind: type[T], words: Sequence[str], default: T | None, **more: Any) -> tuple[T, list[str]]:
    instance: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind, args=list(words), return_unknown_args=True, config=MARKERS, registry=TYPES, **instance, **more
    )


def _try(kind: type[T], words: Sequence[str], default: T | None) -> T | None:
    """Return the value, or None where tyro refuses the words; its own message, a box, is dropped."""
    dropped = io.StringIO()
    try:
        with contextlib.redirect_stderr(dropped), contextlib.redirect_stdout(dropped):
            value, unknown = _cli(kind, words, default, console_outputs=False)
    except SystemExit:
        return None
    return None if unknown else value


def _complaint(kind: type[T], words: Sequence[str], default: T | None) -> str:
    """Return the reason for which tyro refuses the words: it is found by trying each option on its own."""
    types = {f"--{option.name}": option.type for option in options_of(kind) if not option.positional}
    for part in split(words):
        if _is_option(part[0]) and _try(kind, part, default) is None:
            name, equals, value = part[0].partition("=")
            values = [value] * bool(equals) + part[1:]
            if types.get(name, bool) is bool:
                return f"{name} takes no value: {values[0]} stands alone"
            if _try(kind, part[:2], default) is not None:
                return f"{name} takes one value, and {part[2]} stands alone"
            given = f", not {' '.join(values)}" if values else ""
            return f"{name} takes {in_words(types[name])}{given}"
    alone = [word for word in words if not word.startswith("--")]
    return f"cannot read {alone[0] if alone else ' '.join(words)}; options begin with --"


def integer(text: str) -> int:
    """Return a whole number written as 1000000, 1_000_000, 1e6, 1M or 10k; raise ValueError for any other text."""
    factor = SUFFIXES.get(text[-1:], 1)
    try:
        value = Decimal(text[:-1] if factor > 1 else text) * factor
    except InvalidOperation as error:
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
