"""Files in a folder, or in any store that fsspec knows: s3://, hdfs://, ..."""
from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, TypeVar

from contract.errors import UserError
from contract.files import make_folder, write_file
from prediction.pictures import SUFFIXES
from prediction.sources import natural

TRIES, FIRST_WAIT = 7, 1.0  # the waits double: a store that is back within a minute is not noticed
Result = TypeVar("Result")


class Image(NamedTuple):
    """A picture: its name in the results, bytes, and where it is."""

    name: str
    size: int
    url: str


def is_url(text: str) -> bool:
    return "://" in text


class Store:
    """A folder by its path or URL. Names in it are relative, with slashes."""

    def __init__(self, url: str):
        """Raises UserError for a protocol that is unknown or whose package is not installed."""
        import fsspec

        self.url = url
        try:
            self.files, root = fsspec.core.url_to_fs(url if is_url(url) else os.path.abspath(url))
        except (ImportError, ValueError) as error:
            raise UserError(f"{url}: {error}") from None
        self.root = root.rstrip("/")

    @property
    def is_local(self) -> bool:
        return not is_url(self.url)

    def pictures(self) -> List[Image]:
        """All in it and in its subfolders, in natural order. Raises UserError where there is none."""
        found = patiently(lambda: self.files.find(self.root, detail=True))
        images = [Image(path[len(self.root) + 1:], facts["size"], self.files.unstrip_protocol(path))
                  for path, facts in found.items() if path.lower().endswith(SUFFIXES)]
        if not images:
            raise UserError(f"{self.url}: no pictures in it ({', '.join(SUFFIXES)})")
        return sorted(images, key=lambda image: natural(image.name))

    def read(self, name: str) -> bytes:
        """Empty where there is no such file."""
        def read() -> bytes:
            try:
                return self.files.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return b""

        return patiently(read)

    def write(self, name: str, content: bytes) -> None:
        """The file is complete or not there: a store writes an object at once."""
        if self.is_local:
            make_folder(Path(self.root, name).parent)
            write_file(Path(self.root, name), content)
        else:
            patiently(lambda: self.files.pipe_file(f"{self.root}/{name}", content))


def fetch(image: Image, folder: Path, number: int) -> Path:
    """A local copy in `folder`; of a local picture, the picture itself. Raises FileNotFoundError where it is gone."""
    if not is_url(image.url):
        return Path(image.url)
    import fsspec

    path = folder / f"{number}{os.path.splitext(image.name)[1]}"
    files, remote = fsspec.core.url_to_fs(image.url)
    patiently(lambda: files.get_file(remote, str(path)))
    return path


def patiently(work: Callable[[], Result]) -> Result:
    """`work`, again while the store does not answer. Files that are not there, or may not be read, are an answer."""
    for attempt in range(TRIES):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # those of the clients of stores have no common class
            if attempt == TRIES - 1:
                raise OSError(getattr(error, "errno", None) or 5, f"the store does not answer: {error}") from error
            time.sleep(FIRST_WAIT * 2 ** attempt)
    raise AssertionError


