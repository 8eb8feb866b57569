"""The results of predict.py: one line per image while it runs, and AlphaPose's files, made from the lines at the end.

OUTPUT/people.jsonl begins with the settings. Then each line is an image: {"image", "bytes", "people": [{"box",
"box_score", "keypoints", "merged", "id"}]}, written as soon as it is done, so that a program can follow and a run that
was stopped goes on. The last line of a run that came to its end is {"end": true}. Numbers read back are those that were
written.
"""
from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PARTIAL, make_folder, remove_file, write_file
from pose.alphapose_results import results_text, separate_text
from pose.poses import People, nobody
from prediction.sources import Frame

END = b'{"end": true}\n'
LINES, RESULTS, SEPARATE = "people.jsonl", "alphapose-results.json", "sep-json"


class Results:
    """Open one for a run; `add` images, then `finish`."""

    def __init__(self, output: Path, settings: Dict[str, Any], joints: int):
        self.output, self.joints = output, joints
        self.settings = json.loads(json.dumps(settings))  # as they are read back
        self.lines = output / LINES
        self.done: Dict[Tuple[str, int], int] = {}  # name and bytes of an image -> where its line is
        self.file: Any = None

    def begin(self, may_continue: bool, replace: bool) -> None:
        """Go on after the lines of a run of the same settings, or begin anew.

        Raises UserError rather than throw away what an unfinished run of other settings has found, unless `replace`.
        """
        make_folder(self.output)
        first = self._settings_before()
        if first and first != self.settings and not replace and not self._came_to_its_end():
            different = next(key for key in {**first, **self.settings} if first.get(key) != self.settings.get(key))
            raise UserError(f"{self.lines}: of a run that was stopped, with another {different}. Run its command again "
                            "to continue, choose another --output, or --replace")
        remove_file(self.output / RESULTS)
        if first == self.settings and may_continue and not replace:
            self._read_done()
        else:
            write_file(self.lines, (json.dumps(self.settings) + "\n").encode())
        self.file = open(self.lines, "ab", buffering=0)

    def _settings_before(self) -> Optional[Dict[str, Any]]:
        try:
            with open(self.lines, "rb") as file:
                return json.loads(file.readline())
        except FileNotFoundError:
            return None
        except ValueError:
            raise UserError(f"{self.lines}: expected the lines of an earlier run. Remove it, or choose another "
                            "--output") from None

    def _came_to_its_end(self) -> bool:
        with open(self.lines, "rb") as file:
            file.seek(max(0, os.path.getsize(self.lines) - len(END)))
            return file.read() == END

    def _read_done(self) -> None:
        """Note each complete line; one that was cut short is dropped, and so is the end."""
        with open(self.lines, "rb+") as file:
            file.readline()
            while True:
                place, line = file.tell(), file.readline()
                if not line.endswith(b"\n") or line == END:
                    break
                image = json.loads(line)
                self.done[image["image"], image["bytes"]] = place
            file.truncate(place)

    def add(self, frame: Frame, people: People) -> None:
        self.add_line((frame.name, frame.size), line_of(frame, people))

    def add_line(self, key: Tuple[str, int], line: bytes) -> None:
        """A line of `line_of`, of the image with this name and number of bytes."""
        self.done[key] = self.file.tell()
        try:
            written = self.file.write(line)
        except OSError as error:  # a full disk raises without a file name
            raise OSError(error.errno, error.strerror, str(self.lines)) from None
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.lines))

    def finish(self, wanted: Iterable[Tuple[str, int]], format_name: str, by_number: bool, separate: bool,
               is_complete: bool = False) -> None:
        """Write alphapose-results.json, and with `separate` a file an image in sep-json/, of the `wanted` images."""
        if is_complete:
            self.file.write(END)
        self.file.close()
        places = [self.done[key] for key in wanted if key in self.done]
        if separate:
            folder = make_folder(self.output / SEPARATE)
            for name, people in self._images(places):
                if len(people):
                    file_name, text = separate_text(name, people, format_name, by_number)
                    write_file(folder / file_name, text.encode())
        write_pieces(self.output / RESULTS, results_text(self._images(places), format_name, by_number))

    def _images(self, places: List[int]) -> Iterator[Tuple[str, People]]:
        with open(self.lines, "rb") as file:
            for place in places:
                file.seek(place)
                image = json.loads(file.readline())
                yield image["image"], people_of(image["people"], self.joints)


def line_of(frame: Frame, people: People) -> bytes:
    return json.dumps({"image": frame.name, "bytes": frame.size, "people": describe(people)}).encode() + b"\n"


def describe(people: People) -> List[Dict[str, Any]]:
    merged = [1] * len(people) if people.merged is None else people.merged.tolist()
    names = [None] * len(people) if people.ids is None else people.ids.tolist()
    columns = zip(people.boxes_xywh.tolist(), people.box_scores.tolist(), people.joint_rows.tolist(), merged, names)
    return [dict(zip(("box", "box_score", "keypoints", "merged", "id"), row)) for row in columns]


def people_of(rows: List[Dict[str, Any]], joints: int) -> People:
    """The inverse of `describe`."""
    if not rows:
        return nobody(joints)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    joint_rows = np.array(columns["keypoints"], np.float32).reshape(len(rows), -1, 3)
    ids = None if columns["id"][0] is None else np.array(columns["id"], np.int64)
    return People(np.array(columns["box"], np.float32), np.array(columns["box_score"], np.float32),
                  joint_rows[:, :, :2], joint_rows[:, :, 2], np.array(columns["merged"], np.int64), ids)


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """A file of many pieces, complete or not there."""
    partial = f"{path}{PARTIAL}"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(pieces)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        remove_file(partial)
