"""Video in and out through PyAV, whose wheel brings FFmpeg. Frames are (H, W, 3) uint8 RGB, turned upright."""
from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from contract.errors import UserError
from contract.files import PARTIAL, PathLike, remove_file
from pose.picture_header import MOST_PIXELS, require_size

PACKAGE = "python3 -m pip install -r requirements-video.txt"
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that this FFmpeg has
QUALITY = {"libx264": {"crf": "20", "preset": "veryfast"}}
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
PATIENCE = 10.0  # seconds that a camera or stream may be silent
HINTS: Dict[Any, str] = {errno.EINVAL: f" in FFmpeg. Has it more than {MOST_PIXELS} pixels?"}
STREAMS = ("rtsp://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")


class Picture(NamedTuple):
    """A frame: its image, None where it could not be decoded, and when it is shown, in units of the time base."""

    image: Optional[np.ndarray]
    time: Optional[int]
    problem: str = ""


def av_module() -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise UserError(f"video needs the Python package av: {PACKAGE}. Pictures need none of it") from None
    av.logging.set_level(av.logging.PANIC)  # its errors come as exceptions too
    return av


def is_live(source: str) -> bool:
    """Whether it is a camera or a stream, whose end is not known."""
    return source.isdigit() or source.startswith(STREAMS)


class Range(NamedTuple):
    """Frames of a video from number `first` on, shown from `start` and before `stop`, in its time base. `start` is that
    of a key frame; None is the video's own start or end. `length` is how many they are, None where nothing says it."""

    first: int = 0
    start: Optional[int] = None
    stop: Optional[int] = None
    length: Optional[int] = None


class VideoReader:
    """A video file, a stream's URL, or a camera's number. Raises UserError for one that cannot be opened."""

    def __init__(self, source: str):
        self.source, av = source, av_module()
        address = source
        options: Dict[str, Any] = {}
        if source.isdigit():
            address, options["format"] = f"/dev/video{source}", "v4l2"
        if is_live(source):
            options["timeout"] = PATIENCE
        elif not os.path.isfile(source):
            raise UserError(f"{source}: no such video file")
        try:
            self.container = av.open(address, **options)
        except (av.FFmpegError, OSError, ValueError) as error:
            hint = "Is it there and free?" if is_live(source) else "Is it complete?"
            raise UserError(f"{address}: FFmpeg cannot open it as a video: {reason(error)}. {hint}") from None
        if not self.container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in self.container.streams})) or "nothing"
            self.container.close()
            raise UserError(f"{source}: expected a video, got a file with {kinds} and no pictures")
        self.stream = self.container.streams.video[0]
        try:
            require_size(source, self.stream.width, self.stream.height)
        except UserError:
            self.container.close()
            raise
        self.stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # where only the frames say their size
        self.stream.thread_type = "AUTO"
        self.rate, self.time_base = self.stream.average_rate or Fraction(25), self.stream.time_base
        self.count = self.stream.frames or None  # None is unknown

    def ranges(self, size: int) -> List[Range]:
        """All frames in ranges that can be read alone, each to the first key frame after `size` frames. One range where
        packets do not say when they are shown. Reads the file and leaves it read."""
        with contextlib.closing(self.container):
            packets = [packet for packet in self.container.demux(self.stream) if packet.size]
        times = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_discard)
        if len(set(times)) < len(packets):
            return [Range(length=self.count)]
        places = {time: number for number, time in enumerate(times)}
        cuts = [0]
        for packet in packets:
            if packet.is_keyframe and places[packet.pts] >= cuts[-1] + size:
                cuts.append(places[packet.pts])
        return [Range(first, times[first] if first else None, times[stop] if stop < len(times) else None, stop - first)
                for first, stop in zip(cuts, [*cuts[1:], len(times)])]

    def pictures(self, part: Range = Range()) -> Iterator[Picture]:
        """Each frame of a range in the order of showing. What cannot be decoded is a Picture without an image."""
        av = av_module()
        if part.start is not None:
            self.container.seek(part.start, stream=self.stream)
        packets = self.container.demux(self.stream)
        with contextlib.closing(self.container), contextlib.ExitStack() as ended:
            ended.callback(self._rest)  # also where nobody wants further frames
            while True:
                try:
                    packet = next(packets, None)
                    frames: List[Any] = packet.decode() if packet is not None else []
                except av.error.EOFError:
                    return
                except (av.FFmpegError, OSError) as error:
                    yield Picture(None, None, f"{reason(error)}{HINTS.get(error.errno, '')}")
                    if packet_is_lost(error):
                        return
                    continue
                if packet is None:
                    return
                for frame in frames:
                    if part.stop is not None and frame.pts >= part.stop:
                        return
                    if part.start is not None and frame.pts < part.start:  # in the file they follow the key frame
                        continue
                    yield Picture(upright(frame), frame.pts, "damaged" if frame.is_corrupt else "")

    def _rest(self) -> None:
        """Let the decoder's threads end their work. Freed amid it, it waits for them, and they for Python's lock, which
        it holds."""
        if self.stream.codec_context.is_open:
            self.stream.codec_context.flush_buffers()


def packet_is_lost(error: Exception) -> bool:
    """Whether reading must stop, because the source itself failed and not one damaged packet."""
    return not type(error).__name__.startswith("InvalidData")


def upright(frame: Any) -> np.ndarray:
    """A PyAV frame -> RGB, turned as its display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    turn = TURNS.get(round(getattr(frame, "rotation", 0)) % 360)
    return image if turn is None else cv2.rotate(image, turn)


def reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class VideoWriter:
    """An .mp4 with the frames that `add` is given, at their own times. It is under its name, and can be played, once
    `close` was called, whenever that is."""

    def __init__(self, path: PathLike, rate: Fraction, time_base: Optional[Fraction]):
        self.path, self.partial = os.fspath(path), os.fspath(path) + PARTIAL
        self.rate, self.time_base = rate, time_base or 1 / rate
        self.av = av_module()
        self.container: Any = None
        self.stream: Any = None
        self.last: Optional[int] = None  # time of the latest frame

    def add(self, image: np.ndarray, time: Optional[int]) -> None:
        if self.container is None:
            self._open(image.shape[1], image.shape[0])
        frame = self.av.VideoFrame.from_ndarray(fitted(image, self.size), format="rgb24")
        step = max(1, round(1 / (self.rate * self.time_base)))
        late = 0 if self.last is None else self.last + 1
        self.last = max(late, time) if time is not None else (0 if self.last is None else self.last + step)
        frame.pts, frame.time_base = self.last, self.time_base
        self._write(frame)

    def _open(self, width: int, height: int) -> None:
        self.size = width + width % 2, height + height % 2  # chroma is halved, so sides are even
        name = next((name for name in ENCODERS if name in self.av.codecs_available), None)
        if name is None:
            raise UserError(f"{self.path}: this PyAV has none of the encoders {', '.join(ENCODERS)}. Install its wheel "
                            f"({PACKAGE}), or leave out the video with --no-save_video")
        self.container = self.av.open(self.partial, "w", format="mp4", options={"movflags": "faststart"})
        self.stream = self.container.add_stream(name, rate=self.rate, options=QUALITY.get(name, {}))
        self.stream.width, self.stream.height = self.size
        self.stream.pix_fmt, self.stream.time_base = "yuv420p", self.time_base
        self.stream.codec_context.time_base = self.time_base

    def _write(self, frame: Any) -> None:
        try:
            for packet in self.stream.encode(frame):
                self.container.mux(packet)
        except OSError as error:  # a full disk; PyAV's errors are OSErrors as well
            raise OSError(error.errno, reason(error), self.path) from None

    def close(self) -> None:
        """Finish the file. If no frame was added, no file is written."""
        if self.container is None:
            return
        try:
            self._write(None)
            self.container.close()
            os.replace(self.partial, self.path)
        finally:
            self.container = None
            remove_file(self.partial)


def fitted(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """An image in (width, height): as it is, its last row or column doubled, or scaled where a video changes size."""
    right, below = size[0] - image.shape[1], size[1] - image.shape[0]
    if not (right or below):
        return image
    if right in (0, 1) and below in (0, 1):
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
