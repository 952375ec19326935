"""Type annotations of settings: converting values to them, and describing them in errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def coerce(value: object, kind: Any) -> object:
    """Return `value` as the annotation `kind` (lists as tuples, 1e6 as 1000000); ValueError where it does not fit."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _coerce_to_any(value, inner)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(coerce(each, inner[0]) for each in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(name): coerce(each, inner[1]) for name, each in value.items()}
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        number = kind(value)
        fits = number == value
        value = number
    elif origin is Literal:
        fits = value in inner
    else:
        fits = origin is None and kind not in (int, float) and (kind is Any or isinstance(value, kind))
    if not fits:
        raise ValueError(value)
    return value


def _coerce_to_any(value: object, kinds: Iterable[Any]) -> object:
    """Return `value` as the first of several annotations that it fits."""
    for kind in kinds:
        with contextlib.suppress(ValueError):
            return coerce(value, kind)
    raise ValueError(value)


def in_words(kind: Any) -> str:
    """Describe the values that a setting of this type takes, for an error message."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join("None" if each is type(None) else in_words(each) for each in inner)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple and get_origin(inner[0]) is Literal:
        return f"any of {', '.join(map(str, get_args(inner[0])))}"
    if origin is tuple and Ellipsis not in inner:
        return f"{len(inner)} values"
    if origin is tuple:
        return {int: "whole numbers", float: "numbers"}.get(inner[0], "values")
    if origin is dict:
        return "pairs: NAME VALUE"
    return {int: "a whole number", float: "a number", bool: "true or false", type(None): "None"}.get(kind, "a value")
