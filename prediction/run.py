"""One run of predict.py: each source through the pipeline, results and drawings kept as they come."""
from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import cv2
from tqdm import tqdm

from contract.errors import UserError, note
from contract.files import make_folder
from contract.progress import Progress
from prediction.output import Results
from prediction.pictures import write_picture
from prediction.pipeline import Pipeline, Work
from prediction.sources import Pictures, Sample, Video
from prediction.video import VideoWriter

VIS = "vis"
TOLD = 5  # problems that are told as they come; the others are counted
WINDOW = "predict.py"
Key = Tuple[str, int]  # name and bytes of an image


@dataclasses.dataclass
class Output:
    """What is written: drawn pictures and videos (None: as is usual for the source), windows."""

    folder: Path
    pictures: Optional[bool] = None
    videos: Optional[bool] = None
    windows: bool = False


class Run:
    """Takes the sources one after another, and counts: images, people, images kept from before, problems."""

    def __init__(self, pipeline: Pipeline, results: Results, output: Output, make_tracker: Callable[[], Any]):
        self.pipeline, self.results, self.output, self.make_tracker = pipeline, results, output, make_tracker
        self.images, self.people, self.kept = 0, 0, 0
        self.problems: List[str] = []
        self.told = 0  # of these
        self.keys: List[Key] = []  # of the images that the results are about, in order

    def pictures(self, source: Union[Pictures, Sample]) -> None:
        """The pictures that were not done before."""
        write = self.output.pictures is not False
        drawn = drawn_names(source.names, self.output.folder / VIS) if write else {}
        self.keys += [(name, source.size(name)) for name in source.names]
        left = [name for name in source.names if (name, source.size(name)) not in self.results.done
                or write and not drawn[name].exists()]
        count = len(source.names)
        self.kept += count - len(left)
        with Progress(total=count, initial=count - len(left), unit="image", desc="predict") as bar:
            for work in self.pipeline.run(left, source.load, self.make_tracker(), write or self.output.windows):
                bar.update()
                if self._note(work):
                    self.results.add(work.frame, work.people)
                    if write:
                        write_picture(drawn[work.frame.name], work.drawn)
                    self._show(work)

    def video(self, source: Video) -> None:
        folder = self.output.folder / VIS
        with contextlib.ExitStack() as opened:
            writer = None
            if self.output.videos is not False:
                writer = VideoWriter(make_folder(folder) / f"{source.stem}.mp4", source.reader.rate,
                                     source.reader.time_base)
                opened.callback(writer.close)
            bar = opened.enter_context(Progress(total=source.reader.count, unit="frame", desc=source.stem))
            frames, draw = 0, bool(writer or self.output.pictures or self.output.windows)
            for work in self.pipeline.run(source.frames(), lambda frame: frame, self.make_tracker(), draw):
                frames += 1
                bar.update()
                if self._note(work):
                    self.results.add(work.frame, work.people)
                    self.keys.append((work.frame.name, work.frame.size))
                if writer and work.frame.image is not None:
                    writer.add(work.drawn, work.frame.time)
                if self.output.pictures and work.drawn is not None:
                    write_picture(folder / source.stem / Path(work.frame.name).name, work.drawn)
                self._show(work)
        if source.reader.count and frames < source.reader.count:
            self._problem(f"{source.source}: ends after {frames} of {source.reader.count} frames. Is it complete?")

    def _note(self, work: Work) -> bool:
        """Count an image; False, and what is wrong is told, for one that could not be read."""
        if work.is_readable:
            self.images, self.people = self.images + 1, self.people + len(work.people)
            self._tell()
        else:
            self._problem(work.frame.problem)
        return work.is_readable

    def _problem(self, problem: str) -> None:
        self.problems.append(problem)
        self._tell()

    def _tell(self) -> None:
        """The problems that were not told yet. One that is all there is becomes the error of the run."""
        while self.told < min(len(self.problems), TOLD) and (self.images or self.kept or len(self.problems) > 1):
            with tqdm.external_write_mode():
                note(self.problems[self.told])
            self.told += 1

    def _show(self, work: Work) -> None:
        if not self.output.windows or work.drawn is None:
            return
        try:
            cv2.imshow(WINDOW, cv2.cvtColor(work.drawn, cv2.COLOR_RGB2BGR))
            cv2.waitKey(1)
        except cv2.error:
            raise UserError("--show needs a display and the Python package opencv-python, whose headless kind cannot "
                            "open windows. Leave --show out and look into vis/") from None


def drawn_names(names: List[str], folder: Path) -> Dict[str, Path]:
    """NAME.jpg for each picture; where two pictures would be one, the later keeps its suffix: a.png.jpg."""
    owners: Dict[Path, str] = {}
    for name in names:
        path = folder / Path(name.lstrip("/")).with_suffix(".jpg")
        owners[path if path not in owners else folder / f"{name.lstrip('/')}.jpg"] = name
    return {name: path for path, name in owners.items()}
