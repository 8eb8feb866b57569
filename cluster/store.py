"""Files in a folder, or in any store that fsspec knows: s3://, hdfs://, ..."""
from __future__ import annotations

import glob
import os
import re
import time
from pathlib import Path
from typing import Callable, Dict, Optional, Set, Tuple, TypeVar

from contract.errors import UserError
from contract.files import make_folder, write_file

TRIES, FIRST_WAIT = 7, 1.0  # the waits double: a store that is back within a minute is not noticed
Result = TypeVar("Result")


def is_url(text: str) -> bool:
    return "://" in text


class Store:
    """A folder, a file or a pattern, by path or URL. Names in it are relative, with slashes."""

    def __init__(self, url: str):
        """Raises UserError for a protocol that is unknown, or that lacks its package, its client or its server."""
        import fsspec

        self.url = url
        try:
            self.files, root = fsspec.core.url_to_fs(url if is_url(url) else os.path.abspath(url))
        except (ImportError, ValueError) as error:
            raise UserError(f"{url}: {error}") from None
        except OSError as error:  # that of HDFS connects at once
            raise UserError(f"{url}: {str(error).splitlines()[0]}. Is the server there, and for hdfs:// the client of "
                            "Hadoop (JAVA_HOME, HADOOP_HOME and CLASSPATH name it)?") from None
        self.root = root.rstrip("/")

    @property
    def is_local(self) -> bool:
        return not is_url(self.url)

    def find(self) -> Dict[str, Tuple[str, int]]:
        """Name -> URL and bytes: of the file itself, of those that fit the pattern, or of all in the folder and its
        subfolders."""
        search = self.files.glob if glob.has_magic(self.root) else self.files.find
        found = patiently(lambda: search(self.root, detail=True))
        self.is_folder = not glob.has_magic(self.root) and self.root not in found
        folder = self.root if self.is_folder else re.split(r"[*?[]", self.root)[0].rpartition("/")[0]
        return {path[len(folder) + 1:]: (self.files.unstrip_protocol(path), facts["size"])
                for path, facts in found.items() if facts["type"] == "file"}

    def names(self, folder: str) -> Set[str]:
        """Of the files in a folder, FOLDER/NAME."""
        def find() -> Set[str]:
            self.files.invalidate_cache()
            return {path[len(self.root) + 1:] for path in self.files.find(f"{self.root}/{folder}")}

        return patiently(find)

    def read(self, name: str, start: Optional[int] = None, stop: Optional[int] = None) -> bytes:
        """All of it, or the bytes from `start`, counted from the end if negative, to `stop`."""
        return patiently(lambda: self.files.cat_file(f"{self.root}/{name}", start, stop))

    def write(self, name: str, content: bytes) -> None:
        """The file is complete or not there: a store writes an object at once."""
        if self.is_local:
            make_folder(Path(self.root, name).parent)
            write_file(Path(self.root, name), content)
        else:
            patiently(lambda: self.files.pipe_file(f"{self.root}/{name}", content))


def fetch(url: str, folder: Path, number: int = 0) -> Path:
    """A local copy in `folder`; of a local file, the file itself. Raises FileNotFoundError where it is gone."""
    if not is_url(url):
        return Path(url)
    import fsspec

    files, remote = fsspec.core.url_to_fs(url)
    path = folder / f"{number}_{os.path.basename(remote)}"
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
