"""A folder behind a URL (`s3://`, `gs://`, `az://`, `hf://`, `https://`, …), by fsspec.

Read only, and patient: what does not answer is asked again, longer and longer apart, for five
minutes. Whose credentials are taken, and which server a bucket is on, is the business of the
protocol's own package (s3fs, gcsfs, adlfs, …) and of its environment variables.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import ENOENT
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from salakseg.console import console
from salakseg.errors import InputError, WorkError
from salakseg.signals import stopping

# What is to be installed for a protocol, where fsspec does not have it alone.
PACKAGES = {
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    "hf": "huggingface_hub",
}
# Seconds: how long what does not answer is asked again, and how long apart, doubled each time.
PATIENCE, FIRST_WAIT, LONGEST_WAIT = 300.0, 1.0, 30.0
SILENCE = 30.0  # after which a connection counts as lost
# Answers of HTTP that another try may change, though they blame who asks.
PASSING = (408, 425, 429)
ASKED_AT_ONCE = 16
NO_RANGES = (
    "the server sends whole files only, no ranges of them; take one that does (nginx, Apache, "
    "Caddy, any object store)"
)

Answer = TypeVar("Answer")


def is_url(where: Path | str) -> bool:
    """Whether this is `protocol://…`, not a path."""
    return isinstance(where, str) and re.match(r"[a-z][a-z0-9+.-]+://", where, re.I) is not None


class Bucket:
    """A folder behind a URL; threads may share it. Its text is the URL, without what is secret."""

    def __init__(self, url: str) -> None:
        """Raises `InputError` for a protocol that is not known, or lacks its package."""
        import fsspec

        protocol, mark, rest = url.partition("://")
        protocol = protocol.lower()
        url = protocol + mark + rest
        try:
            self._files, root = fsspec.core.url_to_fs(url, **_options(protocol))
        except Exception as error:  # the packages have errors of their own, of all kinds
            what = f"cannot be opened ({_line(error)})"
            if isinstance(error, ImportError) and (package := PACKAGES.get(protocol)):
                what = f"{protocol}:// needs {package}: pip install {package}"
            raise InputError(f"{shown_url(url)}: {what}") from error
        # `?…` of a signed link belongs behind the names of the files.
        self._http = of_http = protocol in ("http", "https")
        base, mark, query = url.partition("?") if of_http else (url, "", "")
        self._base, self._query = base.rstrip("/"), mark + query
        self._root = (base if of_http else root).rstrip("/")
        self._url = shown_url(url)
        self._troubled, self._lock = False, threading.Lock()

    def __str__(self) -> str:
        return self._url

    def shown(self, name: str) -> str:
        """What messages call a file of it."""
        return f"{self._url}/{name}"

    def path(self, name: str) -> str:
        """The URL of a file of it, whole."""
        return f"{self._base}/{name}{self._query}"

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file's bytes, or those from `start` to `end`.

        Raises:
            FileNotFoundError: it is not there.
            InputError: it may not be read.
            WorkError: nothing answers.
        """
        return self._asked(name, lambda path: self._files.cat_file(path, start=start, end=end))

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of each file; -1 where there is none, None where the server does not say."""

        def size(name: str) -> int | None:
            try:
                return self._asked(name, lambda path: self._files.info(path).get("size"))
            except FileNotFoundError:
                return -1

        with ThreadPoolExecutor(ASKED_AT_ONCE, "bucket") as threads:
            return list(threads.map(size, names))

    def about(self, name: str, *, now: bool = False) -> dict[str, Any]:
        """What the server tells of a file: `size` and more, or what it tells now, whatever it told
        before; raises as `read`."""
        if now:
            self._files.invalidate_cache()
        return self._asked(name, lambda path: dict(self._files.info(path)))

    def names(self) -> list[str]:
        """Of what lies in the folder, as they stand in URLs; of a web server what its page lists.

        Raises:
            InputError, WorkError: as `read`; there is no such folder.
        """
        try:
            found = self._asked("", lambda path: self._files.ls(path, detail=False))
        except FileNotFoundError as error:
            raise InputError(f"{self}/: is not there, or cannot be listed") from error
        return sorted({one.partition("?")[0].rstrip("/").rpartition("/")[2] for one in found})

    def require_ranges(self, name: str, size: int) -> None:
        """Raise `InputError` where a web server sends whole files only."""
        if not self._http or size < 2:
            return

        def last_byte(path: str) -> None:
            # Not by `cat_file`, which would take the whole file for it.
            with self._files.open(path, cache_type="none", size=size) as file:
                file.seek(size - 1)
                file.read(1)

        try:
            self._asked(name, last_byte)
        except InputError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            raise InputError(f"{self.shown(name)}: {NO_RANGES}") from error

    def _asked(self, name: str, ask: Callable[[str], Answer]) -> Answer:
        path = f"{self._root}/{name}{self._query}"
        began, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                answer = ask(path)
            except Exception as met:
                error = _cause(met)
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(ENOENT, "not there", self.shown(name)) from error
                if _is_final(error):
                    raise InputError(
                        f"{self.shown(name)}: may not be read ({_line(error)}); see to the login "
                        "and to the permissions"
                    ) from error
                if time.monotonic() - began + wait > PATIENCE:
                    raise WorkError(
                        f"{self.shown(name)}: no answer in {PATIENCE / 60:.0f} minutes "
                        f"({_line(error)}); see to the network and run it again"
                    ) from error
                self._tell(name, error)
            else:
                self._troubled = False
                return answer
            if stopping.wait(wait):
                raise WorkError(f"{self.shown(name)}: no answer until it was stopped")
            wait = min(2 * wait, LONGEST_WAIT)

    def _tell(self, name: str, error: Exception) -> None:
        """Once for each time that the network is away, whichever thread meets it first."""
        with self._lock:
            told, self._troubled = self._troubled, True
        if not told:
            console.print(
                f"{self.shown(name)}: {_line(error)}; asked again for up to "
                f"{PATIENCE / 60:.0f} minutes …"
            )


def _options(protocol: str) -> dict[str, Any]:
    """How fsspec opens a protocol, beside what is set for it by the user."""
    if protocol not in ("http", "https"):
        return {"use_listings_cache": False}
    try:
        from aiohttp import ClientTimeout
    except ImportError:
        return {}
    from fsspec.config import conf

    # By default an answer may take five minutes in all, and its silence as long.
    timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    own = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
    return {"client_kwargs": own | conf.get(protocol, {}).get("client_kwargs", {})}


def _cause(error: Exception) -> Exception:
    """fsspec calls any failure to ask for a size "not found", an overloaded server's too."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        of_http = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
        if of_http and getattr(cause, "status", None) not in (404, 410):
            return cause
    return error


def _is_final(error: Exception) -> bool:
    """Whether another try would end alike."""
    if isinstance(error, PermissionError | ValueError | TypeError | NotImplementedError):
        return True
    kind = type(error).__name__.lower()
    if "credential" in kind or "authentication" in kind:
        return True
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in PASSING


def shown_url(url: str) -> str:
    """Without `user:password@` and `?signature`, which are nobody's business."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] if "http" in parts.scheme else parts.netloc
    query = "" if "http" in parts.scheme else parts.query
    return urlunsplit((parts.scheme, host, parts.path, query, "")).rstrip("/")


def _line(error: Exception) -> str:
    """Its first line, or its kind where it says nothing; no signature of a link."""
    lines = str(error).splitlines()
    return re.sub(r"\?[^\s'\")]+", "?…", lines[0]) if lines else type(error).__name__
