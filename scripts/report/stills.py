"""Stills of videos: the picture that a page shows until a video is played."""

from __future__ import annotations

import base64
from pathlib import Path

WIDTH = 480
"""Largest width of a still, in pixels."""
QUALITIES, BYTES = (70, 50, 30, 10), 60_000
"""JPEG qualities, and the most bytes of a still: the first quality that fits is taken."""


def still(path: Path) -> str | None:
    """Return the frame in the middle of a video as a JPEG data URL; None for a file that is no video."""
    import av
    import cv2
    import numpy as np

    try:
        with av.open(str(path)) as container:
            middle = (container.duration or 0) // 2
            container.seek(middle)  # to the key frame before it, which may be the first of the video
            frame = None
            for frame in container.decode(video=0):
                if frame.time is None or frame.time >= middle / av.time_base:
                    break
    except (av.FFmpegError, IndexError, OSError):
        return None
    if frame is None:
        return None
    picture: np.ndarray = frame.to_ndarray(format="bgr24")
    if picture.shape[1] > WIDTH:
        height = max(round(picture.shape[0] * WIDTH / picture.shape[1]), 1)
        picture = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    for quality in QUALITIES:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(data) <= BYTES:
            return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    return None
