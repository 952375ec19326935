"""Mission channels: missions in English, Chinese, French or speech, and the networks that turn them into English."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from gymnasium import spaces

from agents.errors import ConfigError
from agents.settings import ChannelName, EnvironmentSettings
from envs.missions import VOCABULARY, MissionChannel
from networks.encoders import store
from networks.encoders.base import space_from_json
from networks.encoders.vocabulary import Vocabulary, check_drift
from networks.supervised import corpora
from networks.supervised.data import DataError
from networks.supervised.mission_grammar import MissionError, parse, translate
from networks.supervised.models import Transcriber, Translator, load_heads, strip_padding

AnySettings = TypeVar("AnySettings", bound=EnvironmentSettings)
Render = Callable[[str, int], np.ndarray]
"""(English mission, seed) -> token ids or waveform in the channel's form."""
WORDS = Vocabulary(VOCABULARY)
"""Vocabulary of the games' own missions."""
MAX_UNKNOWN = 0.2
"""Largest share of unknown words in a custom mission."""


def add_mission_channel(
    envs: Any, settings: EnvironmentSettings, mission_encoder: Path | None, custom_mission: str | None = None
) -> Any:
    """Present missions in the form that `settings` name; raise ConfigError where no network reads that form.

    `mission_encoder` is the agent's pretrained encoder of missions, `custom_mission` replaces the game's missions.
    """
    channel = settings.mission_channel
    if channel == "text" and mission_encoder is not None:
        _check_vocabulary(mission_encoder)
    if (channel, settings.interpreter, custom_mission) == ("text", "", None):
        return envs
    parts = envs.single_observation_space
    if not isinstance(parts, spaces.Dict) or "mission" not in parts.spaces:
        raise ConfigError(
            f"--mission-channel, --interpreter and --say are for games with missions; {settings.env} has none"
        )
    space = parts["mission"]
    if channel == "none":
        return MissionChannel(envs, lambda text, seed: token_ids("", space), space, custom_mission)
    if channel == "text" and not settings.interpreter:
        return MissionChannel(envs, lambda text, seed: token_ids(text, space), space, custom_mission)
    if settings.interpreter:
        stored = store.load(Path(settings.interpreter))
        render, interpret = channel_renderer(channel, stored), interpreter(stored)
        return MissionChannel(
            envs, lambda text, seed: token_ids(interpret(render(text, seed)), space), space, custom_mission
        )
    if mission_encoder is None:
        raise ConfigError(
            f"no network reads missions by {channel} here: give --interpreter RUN or --encoder mission=RUN"
        )
    stored = store.load(mission_encoder)
    return MissionChannel(
        envs, channel_renderer(channel, stored), space_from_json(stored.encoder.spec.input), custom_mission
    )


def _check_vocabulary(mission_encoder: Path) -> None:
    """Raise ConfigError where an encoder of English missions numbers the games' words differently."""
    if store.load(mission_encoder).encoder.spec.input.get("vocabulary", WORDS.sha256) != WORDS.sha256:
        raise ConfigError(f"the encoder {mission_encoder} learned other words than the games'; train it anew")


def with_channel(settings: AnySettings, mission_channel: ChannelName | None, interpreter: Path | None) -> AnySettings:
    """Return the settings with another mission channel or interpreter; None keeps their own."""
    return replace(
        settings,
        mission_channel=mission_channel or settings.mission_channel,
        interpreter=str(interpreter or settings.interpreter),
    )


def interpreted_mission(settings: EnvironmentSettings, custom_mission: str) -> str:
    """Return the English text that the agent receives for a custom mission; raise ConfigError for unknown words."""
    if not settings.interpreter:
        if settings.mission_channel == "text":
            check_drift(WORDS, [custom_mission], MAX_UNKNOWN)
        return custom_mission
    stored = store.load(Path(settings.interpreter))
    text = interpreter(stored)(channel_renderer(settings.mission_channel, stored)(custom_mission, 0))
    if settings.mission_channel in ("zh", "fr"):
        check_drift(stored.vocabularies["input"], [custom_mission], MAX_UNKNOWN)
    check_drift(WORDS, [text], MAX_UNKNOWN)
    return text


def token_ids(text: str, space: spaces.Space) -> np.ndarray:
    """Return the token ids of an English mission, int64 [max_words], padded as the games pad their own."""
    assert isinstance(space, spaces.MultiDiscrete)
    return WORDS.array([text], space.shape[0])[0]


def channel_renderer(channel: ChannelName, stored: store.Stored) -> Render:
    """Return the function from an English mission to the input of a stored text or audio encoder."""
    spec = stored.encoder.spec
    modality, language = ("audio", None) if channel == "speech" else ("text", "en" if channel == "text" else channel)
    if spec.modality != modality or (language is not None and spec.input.get("language", "en") != language):
        reads = spec.input.get("language") or spec.modality
        raise ConfigError(f"missions come by {channel}, but {stored.folder} reads {reads}; give another network")
    length = int(spec.input["shape"][0])
    if channel == "speech":
        return lambda text, seed: spoken(text, seed, length, int(spec.input["sample_rate"]))
    vocabulary = stored.vocabularies["input"]
    if channel in ("zh", "fr"):
        return lambda text, seed: vocabulary.array([translated(text, channel, seed)], length)[0]
    return lambda text, seed: vocabulary.array([text], length)[0]


def translated(text: str, language: Literal["zh", "fr"], seed: int) -> str:
    """Translate an English mission, in a wording drawn by `seed`; return any other text unchanged."""
    try:
        return translate(parse(text), language, np.random.default_rng(seed))
    except MissionError:
        return text


def spoken(text: str, seed: int, length: int, rate: int) -> np.ndarray:
    """Return a mission in a voice that no network was trained on, int16 [length] at `rate` Hz.

    `text` may be the path of a WAV or FLAC file, which is read instead.
    """
    from networks.supervised import espeak

    if text.lower().endswith((".wav", ".flac")):
        return recorded(Path(text), length, rate)
    rng = np.random.default_rng(seed)
    recordings = espeak.mission_recordings(text, rate)
    return espeak.add_room(recordings[int(rng.integers(len(recordings)))], rng, length, rate)


def recorded(path: Path, length: int, rate: int) -> np.ndarray:
    """Return a recording, int16 [length] at `rate` Hz; raise ConfigError if it is unreadable or too long."""
    from networks.supervised.speech import pad_to

    try:
        waveform = between_silences(corpora.read_sound(path, rate), rate)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if len(waveform) > length:
        raise ConfigError(f"{path} lasts {len(waveform) / rate:.1f} s; the network takes {length / rate:.1f} s at most")
    return pad_to(waveform, length)


def between_silences(waveform: np.ndarray, rate: int, below: float = 30.0, margin: float = 0.03) -> np.ndarray:
    """Cut silence off both ends: 20 ms frames more than `below` dB under the loudest, except `margin` seconds.

    Encoders normalise a waveform by its own mean and deviation, which a second of silence would dominate.
    """
    size = rate // 50
    frames = waveform[: len(waveform) // size * size].astype(np.float64).reshape(-1, size)
    loudness = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(loudness > loudness.max(initial=0.0) * 10 ** (-below / 20))
    if not len(loud):
        return waveform
    edge = int(margin * rate)
    return waveform[max(loud[0] * size - edge, 0) : (loud[-1] + 1) * size + edge]


def interpreter(stored: store.Stored) -> Callable[[np.ndarray], str]:
    """Return the function from token ids or a waveform to English, of a translation or speech-to-text task."""
    from networks.supervised.speech import snap_to_vocabulary

    vocabulary = stored.vocabularies.get("output")
    spec = stored.encoder.spec
    if vocabulary is None or spec.input.get("target_language", "en") != "en":
        raise ConfigError(f"{stored.folder} makes no English; give a folder of translate-zh-en or speech-to-text")
    if spec.modality == "audio":
        model: Any = load_heads(Transcriber(stored.encoder, vocabulary.size), stored.heads)
    else:
        model = load_heads(Translator(stored.encoder, vocabulary.size, int(spec.input["shape"][0])), stored.heads)

    def interpret(x: np.ndarray) -> str:
        with torch.inference_mode():
            text = vocabulary.decode(strip_padding(model.predict(torch.from_numpy(x[None]))["text"][0]))
        return snap_to_vocabulary(text) if spec.modality == "audio" else text

    return interpret
