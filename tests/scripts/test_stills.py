"""Stills of videos on a page: a frame of the video, small, and none for other files."""

from __future__ import annotations

import base64
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from envs.video import VideoWriter
from scripts.report.stills import BYTES, WIDTH, still


def film(path: Path, width: int, height: int, frames: int = 60) -> Path:
    """Write a video whose first half is black and whose second half is white."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.full((height, width, 3), 255 * (number >= frames // 2), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def decoded(url: str | None) -> np.ndarray:
    """The picture in a data URL."""
    assert url is not None
    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


@pytest.mark.parametrize(("width", "height", "size"), [(160, 210, (210, 160)), (1200, 800, (320, WIDTH))])
def test_a_still_is_a_frame_of_the_video(width: int, height: int, size: tuple[int, int], tmp_path: Path) -> None:
    picture = decoded(still(film(tmp_path / "a.mp4", width, height)))
    assert picture.shape[:2] == size
    assert picture.mean() > 200  # from the middle, not the black beginning


def test_a_still_is_from_the_middle_of_a_video_of_ours(tmp_path: Path) -> None:
    """VideoWriter makes a key frame in 250, so that a short game has one, at its beginning."""
    with VideoWriter(tmp_path / "a.mp4", 160, 120, 60) as writer:
        for number in range(200):
            writer.write(np.full((120, 160, 3), 255 * (90 <= number < 110), np.uint8))
    assert decoded(still(tmp_path / "a.mp4")).mean() > 200


def test_a_still_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mp4", 1280, 720, 60) as writer:
        for _ in range(4):
            writer.write(rng.integers(0, 255, (720, 1280, 3), np.uint8))
    url = still(tmp_path / "a.mp4")
    assert decoded(url).shape == (270, WIDTH, 3)
    assert len(url or "") < 1.4 * BYTES


def test_a_video_of_one_frame_has_a_still(tmp_path: Path) -> None:
    assert still(film(tmp_path / "a.mp4", 64, 64, frames=1)) is not None


@pytest.mark.parametrize("content", [b"", b"film", b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 40])
def test_other_files_have_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert still(tmp_path / "a.mp4") is None
