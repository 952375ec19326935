"""Missions in Chinese or French, or spoken: what gives them, and what makes English of them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.settings import ChannelName
from envs.missions import VOCABULARY, MissionChannel
from networks.encoders import store
from networks.encoders.base import space_from_json
from networks.encoders.vocabulary import Vocabulary, check_drift
from networks.supervised import corpora
from networks.supervised.data import DataError
from networks.supervised.mission_grammar import MissionError, parse, translate
from networks.supervised.models import Transcriber, Translator, load_heads, strip_padding

AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)
Give = Callable[[str, int], np.ndarray]
WORDS = Vocabulary(VOCABULARY)
"""Of the games' own missions."""


def channel(envs: Any, config: TrainConfig, custom_mission: str | None = None) -> Any:
    """Have missions given as the config says; raise ConfigError where nobody can read them."""
    if config.mission_channel == "text":
        _check_words(config)
    if (config.mission_channel, config.interpreter, custom_mission) == ("text", "", None):
        return envs
    words = envs.single_observation_space
    if not isinstance(words, spaces.Dict) or "mission" not in words.spaces:
        raise ConfigError(f"--mission-channel and --say are for games with missions; {config.env} has none")
    ids = words["mission"]
    if config.mission_channel == "none":
        return MissionChannel(envs, lambda text, seed: english("", ids), ids, custom_mission)
    if config.mission_channel == "text" and not config.interpreter:
        return MissionChannel(envs, lambda text, seed: english(text, ids), ids, custom_mission)
    if config.interpreter:
        stored = store.load(Path(config.interpreter))
        give, interpret = giver(config.mission_channel, stored), interpreter(stored)
        return MissionChannel(envs, lambda text, seed: english(interpret(give(text, seed)), ids), ids, custom_mission)
    path = dict(config.encoders()).get("mission")
    if path is None:
        raise ConfigError(
            f"nobody here reads missions by {config.mission_channel}: give --interpreter RUN or --encoder mission=RUN"
        )
    stored = store.load(Path(path[0]))
    return MissionChannel(
        envs, giver(config.mission_channel, stored), space_from_json(stored.encoder.spec.input), custom_mission
    )


def _check_words(config: TrainConfig) -> None:
    """Raise ConfigError where the encoder of missions learned other numbers for the games' words."""
    path = dict(config.encoders()).get("mission")
    learned = store.load(Path(path[0])).encoder.spec.input.get("vocabulary", WORDS.sha256) if path else WORDS.sha256
    if learned != WORDS.sha256:
        raise ConfigError(f"the encoder {path[0] if path else ''} learned other words than the games'; train it anew")


def with_channel(config: AnyConfig, mission_channel: ChannelName | None, interpreter: Path | None) -> AnyConfig:
    """Return the config with another mission channel or interpreter; None keeps the config's own."""
    return replace(
        config,
        mission_channel=mission_channel or config.mission_channel,
        interpreter=str(interpreter or config.interpreter),
    )


def interpreted_mission(config: TrainConfig, mission: str) -> str:
    """Return a custom mission as the agent receives it, in English; raise ConfigError for unknown words."""
    stored = store.load(Path(config.interpreter)) if config.interpreter else None
    text = interpreter(stored)(giver(config.mission_channel, stored)(mission, 0)) if stored is not None else mission
    if stored is not None and config.mission_channel in ("zh", "fr"):
        check_drift(stored.vocabularies["input"], [mission], 0.2)
    if stored is not None or config.mission_channel == "text":
        check_drift(WORDS, [text], 0.2)
    return text


def english(text: str, space: spaces.Space) -> np.ndarray:
    """Return the token numbers of an English mission, as the game gives its own."""
    assert isinstance(space, spaces.MultiDiscrete)
    return WORDS.array([text], space.shape[0])[0]


def giver(kind: str, stored: store.Stored) -> Give:
    """Return what turns an English mission into what the encoder of a task reads."""
    about = stored.encoder.spec.input
    wanted = {"speech": "audio"}.get(kind, "text")
    if stored.encoder.spec.modality != wanted or (wanted == "text" and about.get("language", "en") != _language(kind)):
        reads = about.get("language") or stored.encoder.spec.modality
        raise ConfigError(f"missions are given by {kind}, and {stored.folder} reads {reads}; give another")
    length = int(about["shape"][0])
    if kind == "speech":
        return lambda text, seed: spoken(text, seed, length, int(about["sample_rate"]))
    vocabulary = stored.vocabularies["input"]
    return lambda text, seed: vocabulary.array([foreign(text, kind, seed)], length)[0]


def _language(kind: str) -> str:
    return "en" if kind == "text" else kind


def foreign(text: str, language: str, seed: int) -> str:
    """Return an English mission in another language; what is no English mission is taken as it is."""
    try:
        return translate(parse(text), language, np.random.default_rng(seed))  # type: ignore[arg-type]
    except MissionError:
        return text


def spoken(text: str, seed: int, length: int, rate: int) -> np.ndarray:
    """Return a mission said by a voice that no network was trained on, int16 [length]; or what a WAV file says."""
    from networks.supervised import espeak

    if text.lower().endswith((".wav", ".flac")):
        return recorded(Path(text), length, rate)
    rng = np.random.default_rng(seed)
    ways = espeak.mission_recordings(text, rate)
    return espeak.add_room(ways[int(rng.integers(len(ways)))], rng, length, rate)


def recorded(path: Path, length: int, rate: int) -> np.ndarray:
    """Return a recording, int16 [length]; raise ConfigError for what cannot be read or is too long."""
    from networks.supervised.speech import pad_to

    try:
        wave = between_silences(corpora.read_sound(path, rate), rate)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if len(wave) > length:
        raise ConfigError(f"{path} lasts {len(wave) / rate:.1f} s; at most {length / rate:.1f} s are heard")
    return pad_to(wave, length)


def between_silences(wave: np.ndarray, rate: int, below: float = 30.0, margin: float = 0.03) -> np.ndarray:
    """Cut off what comes before and after all that is not `below` dB below the loudest 20 ms, but for `margin` seconds.

    Sound is normalised by its own mean and deviation, and a second of silence at either end would be most of them.
    """
    size = rate // 50
    frames = wave[: len(wave) // size * size].astype(np.float64).reshape(-1, size)
    loudness = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(loudness > loudness.max(initial=0.0) * 10 ** (-below / 20))
    if not len(loud):
        return wave
    edge = int(margin * rate)
    return wave[max(loud[0] * size - edge, 0) : (loud[-1] + 1) * size + edge]


def interpreter(stored: store.Stored) -> Callable[[np.ndarray], str]:
    """Return what turns such an array into English: a translation or a speech-to-text task."""
    from networks.supervised.speech import snap_to_vocabulary

    words = stored.vocabularies.get("output")
    about = stored.encoder.spec.input
    if words is None or about.get("target_language", "en") != "en":
        raise ConfigError(f"{stored.folder} makes no English; give a folder of translate-zh-en or speech-to-text")
    if stored.encoder.spec.modality == "audio":
        model: Any = load_heads(Transcriber(stored.encoder, words.size), stored.heads)
    else:
        model = load_heads(Translator(stored.encoder, words.size, int(about["shape"][0])), stored.heads)

    def interpret(x: np.ndarray) -> str:
        with torch.inference_mode():
            text = words.decode(strip_padding(model.predict(torch.from_numpy(x[None]))["text"][0]))
        return snap_to_vocabulary(text) if stored.encoder.spec.modality == "audio" else text

    return interpret
