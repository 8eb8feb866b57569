"""What the user names, as entries of shards: pictures, tar files of pictures, videos in ranges of frames."""
from __future__ import annotations

import glob
import os
import shutil
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, List, Optional

from cluster.shards import TARS, Entry
from cluster.store import Store, fetch, is_url
from contract.errors import UserError
from prediction.pictures import SUFFIXES, read_picture
from prediction.sources import VIDEO_SUFFIXES, Frame, Pictures, Sample, Video, find_sources, natural
from prediction.video import VideoReader

Load = Callable[[], Frame]


def list_entries(inputs: List[str], output: str, size: int) -> List[Entry]:
    """Pictures first, then tar files, then videos, which are cut after about `size` frames. Raises UserError."""
    urls = [entry for entry in inputs if is_url(entry)]
    if urls:
        if len(inputs) > 1:
            raise UserError(f"{urls[0]}: give one URL alone, of a folder, a file or a pattern")
        return in_store(Store(urls[0]), size)
    named = [entry for entry in inputs if entry.lower().endswith(TARS)]
    tars = [path for entry in named for path in sorted(glob.glob(entry), key=natural)]
    if len(tars) < len(named):
        raise UserError(f"{', '.join(named)}: no such tar file")
    rest = [entry for entry in inputs if entry not in named]
    sources = find_sources(rest, Path(output)) if rest else []
    if not inputs or any(isinstance(source, Sample) or isinstance(source, Video) and source.live
                         for source in sources):
        raise UserError("--distributed needs files: a folder of pictures, tar files or videos, by path or URL")
    alone = len(tars) == 1 and not rest
    entries = [Entry(name, source.size(name), os.path.abspath(path)) for source in sources
               if isinstance(source, Pictures) for name, path in source.paths.items()]
    entries += [Entry("" if alone else inside(path), os.path.getsize(path), os.path.abspath(path)) for path in tars]
    for source in sources:
        if isinstance(source, Video):
            path, prefix = os.path.abspath(source.source), f"{source.stem}/" if tars else source.prefix
            entries += ranges_of(Entry(prefix, os.path.getsize(path), path), path, size)
    return entries


def in_store(store: Store, size: int) -> List[Entry]:
    """Of a folder its pictures and tar files; a video is named by itself or by a pattern."""
    found = store.find()
    kinds = (*SUFFIXES, *TARS) if store.is_folder else (*SUFFIXES, *TARS, *VIDEO_SUFFIXES)
    files = sorted((Entry(name, count, url) for name, (url, count) in found.items() if name.lower().endswith(kinds)),
                   key=lambda entry: natural(entry.name))
    if not files:
        raise UserError(f"{store.url}: no pictures in it, and no tar files ({', '.join((*SUFFIXES, *TARS))})")
    entries, others = ([entry for entry in files if entry.is_picture is wanted] for wanted in (True, False))
    for entry in others:
        entry = entry._replace(name="" if len(files) == 1 else inside(entry.name))
        if entry.is_tar:
            entries.append(entry)
            continue
        with tempfile.TemporaryDirectory() as folder:
            entries += ranges_of(entry, fetch(entry.url, Path(folder)), size)
    return entries


def inside(path: str) -> str:
    """What comes before the names of the images of a file: a/b.tar.gz -> a/b/."""
    suffix = next(suffix for suffix in (*TARS, *VIDEO_SUFFIXES) if path.lower().endswith(suffix))
    return f"{path[:-len(suffix)].lstrip('./')}/"


def ranges_of(entry: Entry, path: object, size: int) -> List[Entry]:
    return [entry._replace(range=part) for part in VideoReader(str(path)).ranges(size)]


class Reader:
    """Reads entries in a worker. The file that was read last is kept, because ranges of a video follow each other."""

    def __init__(self) -> None:
        self.kept = tempfile.TemporaryDirectory()
        self.url: Optional[str] = None
        self.path = Path()

    def loads(self, entry: Entry, number: int, folder: Path) -> Iterator[Load]:
        """What makes each image of an entry, for any thread. Files that `folder` is given are removed when read."""
        if entry.is_picture:
            yield partial(load, entry, number, folder)
        elif entry.is_tar:
            yield from self._in_tar(entry, folder)
        else:
            yield from (partial(the, frame) for frame in Video(str(self._local(entry)), entry.name).frames(entry.range))

    def _local(self, entry: Entry) -> Path:
        if self.url != entry.url:
            self.kept.cleanup()
            self.kept = tempfile.TemporaryDirectory()
            self.path, self.url = fetch(entry.url, Path(self.kept.name)), entry.url
        return self.path

    def _in_tar(self, entry: Entry, folder: Path) -> Iterator[Load]:
        """Of a tar file that is damaged, what comes before the damage, and a problem."""
        try:
            with tarfile.open(self._local(entry), "r|*") as tar:
                for number, member in enumerate(tar):
                    file = tar.extractfile(member) if member.name.lower().endswith(SUFFIXES) else None
                    if file:
                        path = folder / f"{number}{os.path.splitext(member.name)[1]}"
                        with open(path, "wb") as copy:
                            shutil.copyfileobj(file, copy)
                        yield partial(read, f"{entry.name}{member.name.lstrip('./')}", member.size, path,
                                      f"{entry.url}: {member.name}", folder)
        except (tarfile.TarError, EOFError, OSError) as error:
            yield partial(the, Frame(entry.name or os.path.basename(entry.url), None,
                                     f"{entry.url}: {error}. Is the tar file complete?", size=entry.size))


def the(frame: Frame) -> Frame:
    return frame


def load(entry: Entry, number: int, folder: Path) -> Frame:
    """The picture, or what is wrong with it. Raises OSError where its store does not answer."""
    try:
        path = fetch(entry.url, folder, number)
    except (FileNotFoundError, PermissionError):
        return Frame(entry.name, None, f"{entry.url}: no such picture, or not readable", size=entry.size)
    return read(entry.name, entry.size, path, entry.url, folder)


def read(name: str, size: int, path: Path, shown: str, folder: Path) -> Frame:
    """The picture in a file, which is removed if it is in `folder`, or what is wrong with what the user calls
    `shown`."""
    try:
        return Frame(name, read_picture(path), size=size)
    except (UserError, OSError) as error:
        return Frame(name, None, str(error).replace(str(path), shown), size=size)
    finally:
        if path.parent == folder:
            path.unlink()
