"""Videos of games: written as they are played, in constant memory, with the game's sound, and checked afterwards.

H.264 and AAC in an mp4, through PyAV. A video appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import gymnasium as gym
import numpy as np

from envs.action_replays import EpisodeRecord, MakeEnv, resimulate
from envs.ale import FRAMES_PER_SECOND, SAMPLES_PER_FRAME, AtariGame
from envs.errors import RecordingError

SOUND_RATE = 44_100
SMALLEST_SIDE = 160
MINATAR_CELL = 24
MINATAR_COLOURS = np.array(
    [(98, 209, 150), (255, 209, 102), (94, 129, 172), (214, 84, 84), (180, 120, 220), (90, 200, 230), (240, 140, 60),
     (160, 160, 170), (230, 120, 170), (130, 160, 60)], np.uint8,
)  # fmt: skip
"""Of the state's channels; the player is the first."""
Overlay = Callable[[int, float], list[str]]
"""(step, score) -> lines of text."""


class VideoWriter:
    """Write frames uint8 [height, width, 3] and, if `sound_rate` is given, samples uint8 [n] to an mp4.

    Used as a context manager: after an exception nothing is left behind, and a video that was there before is intact.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: float, sound_rate: int | None = None, **metadata: str
    ):
        self.path, self.frames, self._samples = Path(path), 0, 0
        self.width, self.height = width + width % 2, height + height % 2  # H.264 halves the resolution of colour
        self.fps = Fraction(fps).limit_denominator(1000)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with self._guard():
            self._part.touch()  # av.open puts off the error of a folder that cannot be written to
            self._file = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
            self._file.metadata.update(metadata)
            self._video = self._file.add_stream("libx264", rate=self.fps)
            self._video.width, self._video.height, self._video.pix_fmt = self.width, self.height, "yuv420p"
            self._video.options = {"crf": "18", "preset": "veryfast"}
            self._sound = None
            if sound_rate:
                self._sound_rate = sound_rate
                self._sound = self._file.add_stream("aac", rate=SOUND_RATE, layout="mono")
                self._resampler = av.AudioResampler("fltp", "mono", SOUND_RATE)

    def write(self, frame: np.ndarray, samples: np.ndarray | None = None) -> None:
        """Add one frame, and the sound that goes with it."""
        height, width = frame.shape[:2]
        if (height, width) != (self.height, self.width):
            assert {self.height - height, self.width - width} <= {0, 1}, "frames change their size"
            frame = np.pad(frame, ((0, self.height - height), (0, self.width - width), (0, 0)), mode="edge")
        with self._guard():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = self.frames, 1 / self.fps
            self._file.mux(self._video.encode(picture))
            self.frames += 1
            if self._sound is not None and samples is not None:
                self._write_sound(samples)

    def close(self) -> None:
        """Finish the file and give it its name."""
        with self._guard():
            if not self.frames:
                raise RecordingError(f"{self.path}: no frame was recorded")
            self._file.mux(self._video.encode(None))
            if self._sound is not None:
                for chunk in self._resampler.resample(None):
                    self._file.mux(self._sound.encode(chunk))
                self._file.mux(self._sound.encode(None))
            self._file.close()
            os.replace(self._part, self.path)

    def abort(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError, av.FFmpegError, AttributeError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _write_sound(self, samples: np.ndarray) -> None:
        assert self._sound is not None
        sound = av.AudioFrame.from_ndarray(samples[None], format="u8", layout="mono")
        sound.sample_rate, sound.pts = self._sound_rate, self._samples
        sound.time_base = Fraction(1, self._sound_rate)
        self._samples += len(samples)
        for chunk in self._resampler.resample(sound):
            self._file.mux(self._sound.encode(chunk))

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise RecordingError(f"cannot write {self.path}: {error.strerror or error}") from error
        except BaseException:
            self.abort()
            raise


def render_replay(
    record: EpisodeRecord,
    previous: Sequence[EpisodeRecord],
    path: str | Path,
    make_env: MakeEnv,
    scale: int = 1,
    sound: bool = True,
    overlay: Overlay | None = None,
    max_steps: int | None = None,
) -> dict[str, Any]:
    """Play a recorded episode again, verify it, and write the video; a replay that proves wrong leaves no video.

    Atari games show each of the 60 frames a second, with sound; others one frame a step. `max_steps` cuts the video
    short. Returns path, frames, seconds, width, height, has_audio, steps and score.
    """
    moments = resimulate(record, previous, make_env)
    moment = next(moments)
    game = moment.env.unwrapped
    atari = isinstance(game, AtariGame)

    def finish(frame: np.ndarray) -> np.ndarray:
        frame = enlarge(frame, scale)
        return draw_text(frame, overlay(moment.step, moment.score), below=not atari) if overlay else frame

    first = finish(render_frame(moment.env))
    pending: list[tuple[np.ndarray, np.ndarray | None]] = []
    fps, rate = float(moment.env.metadata.get("render_fps") or 10), None
    if isinstance(game, AtariGame):
        game.on_frame = lambda frame, samples: pending.append((frame, samples))
        fps, rate = FRAMES_PER_SECOND, FRAMES_PER_SECOND * SAMPLES_PER_FRAME if sound else None
    notes = {"title": f"{record.env_id} score {record.episode_return:g}"}
    if "weights_sha256" in record.extras:
        notes["comment"] = f"weights {record.extras['weights_sha256']}"
    with VideoWriter(path, first.shape[1], first.shape[0], fps, rate, **notes) as writer:
        writer.write(first, np.full(SAMPLES_PER_FRAME, 128, np.uint8))
        for moment in moments:
            if not atari:
                pending.append((render_frame(moment.env), None))
            for frame, samples in pending:
                writer.write(finish(frame), samples)
            pending.clear()
            if moment.step == max_steps:
                break
        moments.close()  # type: ignore[attr-defined]
    facts = {"path": str(path), "frames": writer.frames, "seconds": float(writer.frames / writer.fps)}
    facts |= {"width": writer.width, "height": writer.height, "has_audio": rate is not None}
    return facts | {"steps": moment.step, "score": moment.score}


def render_frame(env: gym.Env) -> np.ndarray:
    """Return a picture of the game that a person can read, uint8 [height, width, 3], no side below 160."""
    game = env.unwrapped
    if type(game).__module__.startswith("minatar"):
        state = game.game.state()  # type: ignore[attr-defined]
        frame = np.full((*state.shape[:2], 3), 24, np.uint8)
        for channel in reversed(range(state.shape[2])):  # what comes first lies on top
            frame[state[:, :, channel]] = MINATAR_COLOURS[channel]
        return enlarge(frame, MINATAR_CELL)
    picture: Any = None
    with contextlib.suppress(NotImplementedError):  # what Gymnasium's base class says for those that cannot draw
        picture = env.render()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        name = env.spec.id if env.spec else type(game).__name__
        raise RecordingError(f"{name} draws no picture that could be recorded")
    return enlarge(picture.astype(np.uint8), -(-SMALLEST_SIDE // min(picture.shape[:2])))


def enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel `factor` times in both directions."""
    return frame if factor == 1 else frame.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_text(frame: np.ndarray, lines: Sequence[str], below: bool = False) -> np.ndarray:
    """Return the frame with lines of white text on a dark ground, along its lower edge or `below` the picture."""
    font = cv2.FONT_HERSHEY_PLAIN
    height, width = frame.shape[:2]
    widest = max((cv2.getTextSize(line, font, 1.0, 1)[0][0] for line in lines), default=1)
    size = min(max(0.8, width / 400), (width - 6) / widest, height / (30 * max(len(lines), 1)))
    line_height = round(13 * size) + 2
    strip = line_height * len(lines) + 2
    frame = np.pad(frame, ((0, strip if below else 0), (0, 0), (0, 0)))
    top = len(frame) - strip
    frame[top:] = frame[top:] * 0.4  # the game goes on under the text
    for number, line in enumerate(lines):
        at = (3, top + line_height * (number + 1) - 2)
        cv2.putText(frame, line, at, font, size, (255, 255, 255), 1, cv2.LINE_AA)
    return frame


def check_video(path: str | Path, expected_seconds: float | None = None) -> dict[str, Any]:
    """Decode the whole video; return frames, seconds, width, height, has_audio and audio_peak (0 is silence, 1 full).

    Raises RecordingError if it cannot be decoded, is of one colour throughout, or lasts another time than expected (by
    more than a tenth and more than a second).
    """
    frames, contrast, peak = 0, 0, 0.0
    try:
        with av.open(str(path)) as file:
            video, sounds = file.streams.video[0], file.streams.audio
            facts = {"width": video.width, "height": video.height, "has_audio": bool(sounds)}
            for part in file.decode(*file.streams):
                if isinstance(part, av.VideoFrame):
                    if frames % 16 == 0:
                        contrast = max(contrast, int(np.ptp(part.to_ndarray(format="rgb24"), axis=(0, 1)).max()))
                    frames += 1
                elif isinstance(part, av.AudioFrame):
                    peak = max(peak, float(np.abs(part.to_ndarray()).max()))
            seconds = float(frames / (video.average_rate or 1))
    except (OSError, av.FFmpegError, IndexError) as error:
        raise RecordingError(f"{path} cannot be played: {getattr(error, 'strerror', None) or error}") from error
    if not frames or contrast < 8:
        raise RecordingError(f"{path} shows nothing: {frames} frames of one colour")
    if expected_seconds is not None and abs(seconds - expected_seconds) > max(1.0, 0.1 * expected_seconds):
        raise RecordingError(f"{path} lasts {seconds:.1f} s and should last {expected_seconds:.1f} s")
    return {"frames": frames, "seconds": seconds, **facts, "audio_peak": peak}
