"""Grammar of BabyAI's missions (Chevalier-Boisvert et al. 2019, figure 2): draw, parse, and translate them.

A mission has one or two groups of one or two clauses: "A and B, then C and D", or "A and B after you C and D". Chinese
and French keep this order. Chinese has no articles, so translations from it may choose them freely.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

COLORS = ("blue", "green", "grey", "purple", "red", "yellow")
TYPES = ("ball", "box", "door", "key")
PLACES = ("left", "right", "front", "behind")
VERBS = ("go to", "pick up", "open", "put")
HELD_OUT = frozenset({("red", "ball"), ("blue", "key"), ("green", "box"), ("yellow", "door"), ("purple", "ball")})
"""Pairs of colour and type excluded from training, to test generalisation from words to pairs; equal to the pairs in
envs/missions.py, which this package does not import."""
Wording = TypeVar("Wording", str, bool)
Language = Literal["en", "zh", "fr"]


class MissionError(ValueError):
    """A text is not a mission; the message is one line."""


@dataclass(frozen=True)
class Thing:
    """Description of an object."""

    color: str | None = None
    type: str | None = None
    place: str | None = None
    definite: bool = True


@dataclass(frozen=True)
class Clause:
    """An instruction; `target` is the object to put `thing` next to."""

    verb: str
    thing: Thing
    target: Thing | None = None


@dataclass(frozen=True)
class Mission:
    """Groups of clauses; `joint` is `then` if the second group comes second, `after` if it comes first."""

    first: tuple[Clause, ...]
    second: tuple[Clause, ...] = ()
    joint: Literal["then", "after"] | None = None

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Clauses of both groups."""
        return self.first + self.second

    @property
    def things(self) -> list[Thing]:
        """All objects mentioned."""
        return [thing for clause in self.clauses for thing in (clause.thing, clause.target) if thing is not None]

    @property
    def held_out(self) -> bool:
        """Whether it mentions a pair excluded from training."""
        return any((thing.color, thing.type) in HELD_OUT for thing in self.things)

    def without_articles(self) -> Mission:
        """Return the mission with every `a` replaced by `the`."""
        return parse(re.sub(r"\ba\b", "the", to_english(self)))


def draw(rng: np.random.Generator, simple: bool = False) -> Mission:
    """Draw a mission of one to four clauses like the level SynthSeq, or of one clause if `simple`."""
    if simple or rng.random() < 0.4:
        return Mission((_clause(rng),))
    first = tuple(_clause(rng) for _ in range(rng.integers(1, 3)))
    if len(first) == 2 and rng.random() < 0.4:
        return Mission(first)
    second = tuple(_clause(rng) for _ in range(rng.integers(1, 3)))
    return Mission(first, second, "then" if rng.random() < 0.5 else "after")


def _clause(rng: np.random.Generator) -> Clause:
    verb = VERBS[int(rng.integers(len(VERBS)))]
    if verb == "open":
        return Clause(verb, _thing(rng, ("door",)))
    movable = tuple(kind for kind in TYPES if kind != "door")
    if verb == "go to":
        return Clause(verb, _thing(rng, TYPES))
    return Clause(verb, _thing(rng, movable), _thing(rng, TYPES) if verb == "put" else None)


def _thing(rng: np.random.Generator, kinds: Sequence[str]) -> Thing:
    kind = kinds[int(rng.integers(len(kinds)))] if kinds == ("door",) or rng.random() < 0.85 else None
    color = COLORS[int(rng.integers(len(COLORS)))] if rng.random() < 0.8 else None
    place = PLACES[int(rng.integers(len(PLACES)))] if rng.random() < 0.25 else None
    return Thing(color, kind, place, bool(rng.random() < 0.6))


_EN_PLACE = {"left": "on your left", "right": "on your right", "front": "in front of you", "behind": "behind you"}


def _en_thing(thing: Thing) -> str:
    words = ["the" if thing.definite else "a", thing.color, thing.type or "object", _EN_PLACE.get(thing.place or "")]
    return " ".join(word for word in words if word)


def _en_clause(clause: Clause) -> str:
    target = f" next to {_en_thing(clause.target)}" if clause.target else ""
    return f"{clause.verb} {_en_thing(clause.thing)}{target}"


def to_english(mission: Mission) -> str:
    """Return the mission in English, in BabyAI's wording."""
    parts = [" and ".join(_en_clause(clause) for clause in group) for group in (mission.first, mission.second) if group]
    return (", then " if mission.joint == "then" else " after you ").join(parts)


_THING = (
    rf"(?P<article>a|the) (?:(?P<color>{'|'.join(COLORS)}) )?(?P<type>{'|'.join(TYPES)}|object)"
    r"(?: (?P<place>on your left|on your right|in front of you|behind you))?"
)


def parse(text: str) -> Mission:
    """Parse an English mission; raise MissionError if the text is none."""
    text = re.sub(r"\s+", " ", text.lower().replace(",", " ,").replace(".", " ")).replace(" ,", ",").strip()
    text = re.sub(r",? (?:and )?then ", ", then ", text)
    for joint, words in (("then", ", then "), ("after", " after you ")):
        if words in text:
            first, second = text.split(words, 1)
            return Mission(_parse_group(first), _parse_group(second), joint)  # type: ignore[arg-type]
    return Mission(_parse_group(text))


def _parse_group(text: str) -> tuple[Clause, ...]:
    clauses = tuple(_parse_clause(part) for part in text.split(" and "))
    if len(clauses) > 2:
        raise MissionError(f"'{text}' has {len(clauses)} clauses in a row; missions have at most two")
    return clauses


def _parse_clause(text: str) -> Clause:
    for verb in VERBS:
        if text.startswith(f"{verb} "):
            thing, _, target = text.removeprefix(f"{verb} ").partition(" next to ")
            if bool(target) != (verb == "put"):
                break
            return Clause(verb, _parse_thing(thing), _parse_thing(target) if target else None)
    raise MissionError(f"'{text}' is not a mission; expected one such as 'go to the red ball'")


def _parse_thing(text: str) -> Thing:
    match = re.fullmatch(_THING, text)
    if match is None:
        raise MissionError(f"'{text}' is not an object of BabyAI; expected one such as 'the red ball on your left'")
    place = next((name for name, words in _EN_PLACE.items() if words == match["place"]), None)
    kind = None if match["type"] == "object" else match["type"]
    return Thing(match["color"], kind, place, match["article"] == "the")


_ZH_COLOR = {"blue": "蓝", "green": "绿", "grey": "灰", "purple": "紫", "red": "红", "yellow": "黄"}
_ZH_TYPE = {"ball": ("球", "小球"), "box": ("箱子", "盒子"), "door": ("门",), "key": ("钥匙",), None: ("东西", "物体")}
_ZH_PLACE = {"left": "左边", "right": "右边", "front": "前面", "behind": "后面"}
_ZH_VERB = {
    "go to": ("走到", "去", "走向", "前往", "走去", "去找", "走近"), "pick up": ("捡起", "拿起", "拾起", "捡", "拿"),
    "open": ("打开", "开", "开启"),
}  # fmt: skip
_ZH_BEHIND = {"pick up": ("捡起来", "拿起来", "拾起来"), "open": ("打开", "开开")}
"""Verbs placed after their object."""


def _zh_thing(thing: Thing, pick: Pick) -> str:
    color = pick(("色的", "色", "", "的")) if thing.color else ""
    place = f"{pick(('你', ''))}{_ZH_PLACE[thing.place]}{pick(('的', '那个'))}" if thing.place else ""
    article = pick(("", "", "那个", "这个")) if thing.definite else pick(("", "", "一个"))
    article = "" if place else article
    return f"{place}{article}{_ZH_COLOR.get(thing.color or '', '')}{color}{pick(_ZH_TYPE[thing.type])}"


def _zh_clause(clause: Clause, pick: Pick) -> str:
    thing = _zh_thing(clause.thing, pick)
    if clause.target:
        where = pick(("旁边", "的旁边", "边上", "附近"))
        return f"{pick(('把', '将'))}{thing}{pick(('放到', '放在', '拿到'))}{_zh_thing(clause.target, pick)}{where}"
    if clause.verb in _ZH_BEHIND and pick((False, False, True)):
        return f"把{thing}{pick(_ZH_BEHIND[clause.verb])}"
    if clause.verb == "go to" and pick((False, False, False, True)):
        return f"到{thing}{pick(('那里去', '那边去', '旁边去'))}"
    verb = pick(_ZH_VERB[clause.verb])
    return f"{verb}{thing}{pick(('', '那里', '旁边')) if clause.verb == 'go to' and verb in ('去', '走到') else ''}"


_FR_TYPE = {
    "ball": ("balle", "boule"), "box": ("boîte", "caisse"), "door": ("porte",), "key": ("clé", "clef"),
    None: ("objet",),
}  # fmt: skip
_FR_COLOR = {
    "blue": ("bleu", "bleue"), "green": ("vert", "verte"), "grey": ("gris", "grise"), "purple": ("violet", "violette"),
    "red": ("rouge", "rouge"), "yellow": ("jaune", "jaune"),
}  # fmt: skip
_FR_PLACE = {"left": "à ta gauche", "right": "à ta droite", "front": "devant toi", "behind": "derrière toi"}
_FR_VERB = {
    "go to": ("va vers", "va jusqu'à", "dirige-toi vers", "marche vers", "avance vers"),
    "pick up": ("ramasse", "prends", "attrape", "saisis"), "open": ("ouvre",),
    "put": ("mets", "pose", "place", "dépose"),
}  # fmt: skip


def _fr_thing(thing: Thing, pick: Pick) -> str:
    feminine = thing.type is not None
    article = ("la " if feminine else "l'") if thing.definite else ("une " if feminine else "un ")
    words = [pick(_FR_TYPE[thing.type]), _FR_COLOR[thing.color][feminine] if thing.color else ""]
    return article + " ".join(word for word in (*words, _FR_PLACE.get(thing.place or "", "")) if word)


def _fr_clause(clause: Clause, pick: Pick) -> str:
    where = pick(("à côté de", "près de"))
    target = f" {where} {_fr_thing(clause.target, pick)}".replace(" de un", " d'un") if clause.target else ""
    return f"{pick(_FR_VERB[clause.verb])} {_fr_thing(clause.thing, pick)}{target}"


class Pick:
    """Chooses among wordings at random, or the first without a generator."""

    def __init__(self, rng: np.random.Generator | None):
        self.rng = rng

    def __call__(self, options: Sequence[Wording]) -> Wording:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options))) if self.rng is not None else 0]


def translate(mission: Mission, language: Language, rng: np.random.Generator | None = None) -> str:
    """Translate a mission; with `rng` the wording varies."""
    pick = Pick(rng)
    if language == "en":
        return to_english(mission)
    if language == "zh":
        conjunction = pick(("并且", "，并", "，还要"))
        parts = [
            conjunction.join(_zh_clause(clause, pick) for clause in group) for group in (mission.first, mission.second)
        ]
        joints = {
            "then": pick(("，然后", "，再", "，接着", "，之后")),
            "after": pick(("，不过要先", "，但是先", "，在这之前先")),
        }
        parts[0] = pick(("", "", "请", "你要", "请你")) + parts[0]
        parts[-1 if parts[-1] else 0] += pick(("", "", "吧"))
    else:
        parts = [" et ".join(_fr_clause(clause, pick) for clause in group) for group in (mission.first, mission.second)]
        joints = {
            "then": pick((", puis ", ", ensuite ", ", après ")),
            "after": pick((", mais d'abord ", ", mais avant ", ", mais avant cela ")),
        }
        parts[0] = pick(("", "", "s'il te plaît, ", "maintenant ")) + parts[0]
    return (joints[mission.joint] if mission.joint else "").join(part for part in parts if part)


POSITIONS = ("first", "second", "third", "fourth")
"""Clauses of both groups: two before the joint, two after it."""


def slot_names() -> dict[str, tuple[str, ...]]:
    """Return the values of each slot of a mission; the first value means empty."""
    parts = {"color": ("-", *COLORS), "type": ("-", "object", *TYPES), "place": ("-", *PLACES)}
    names: dict[str, tuple[str, ...]] = {"joint": ("-", "then", "after")}
    for position in POSITIONS:
        names[f"{position}_verb"] = ("-", *VERBS)
        for prefix in ("", "target_"):
            names |= {f"{position}_{prefix}{part}": values for part, values in parts.items()}
    return names


def slots(mission: Mission) -> dict[str, int]:
    """Return the index of the value in each slot."""
    names = slot_names()
    values_of = dict.fromkeys(names, 0)
    values_of["joint"] = names["joint"].index(mission.joint or "-")
    for group, offset in ((mission.first, 0), (mission.second, 2)):
        for position, clause in zip(POSITIONS[offset:], group, strict=False):
            values_of[f"{position}_verb"] = names[f"{position}_verb"].index(clause.verb)
            for prefix, thing in (("", clause.thing), ("target_", clause.target)):
                if thing is None:
                    continue
                values = {"color": thing.color, "type": thing.type or "object", "place": thing.place}
                for part, value in values.items():
                    name = f"{position}_{prefix}{part}"
                    values_of[name] = names[name].index(value or "-")
    return values_of
