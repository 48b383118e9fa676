"""Images that are no files here: behind a URL, or in a zip. One stands where a path does.

A TIFF is read by the parts that are needed of it; a PNG or JPEG, which nobody can read by parts, is
copied while it is open. What may lie beside it (world files, `.aux.xml`, `.msk`) is not asked for.

GDAL has clients of its own for URLs. Here it reads by Python, so that `Bucket` alone meets the
network: it asks again after half an answer too, logs in as for shards, and knows by the ETag what
changed. And GDAL itself must never meet a failure: where the list of a TIFF's blocks could not be
read once, it takes them for empty from then on, and says nothing.
"""

import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import rasterio

from salakseg.bucket import ASKED_AT_ONCE, Bucket, is_url, shown_url
from salakseg.errors import InputError, WorkError
from salakseg.imagery.ranges import Opener, RangeFile
from salakseg.signals import Stop, stopping

# What GDAL calls them, and what they are called here.
GDAL_NAMES = {"/vsis3/": "s3://", "/vsigs/": "gs://", "/vsiaz/": "az://", "/vsicurl/": ""}
IN_ZIP = re.compile(r"(?:/vsizip/|zip://)\{?(.+?\.zip)\}?(?:!/?|/)(.+)", re.I)
# By one of these, whichever the server gives, it is seen that an image was replaced.
VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "Last-Modified", "LastModified", "last_modified")


class RemoteImage(ABC):
    """An image that is no file here. Its text is where it is, without what is secret.

    Attributes:
        name, stem, suffix: as of a path.
        gdal_name: by which QGIS opens it; None where it would have to know a secret.
        failure: why what was read of it is not to be trusted, see `answered`.
    """

    gdal_name: str | None
    failure: BaseException | None = None

    def __init__(self, text: str, name: str) -> None:
        """Of its whole text, by which it is itself, and its file name."""
        self._text, self.name = text, name
        self.stem, self.suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteImage) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes tell each other of it; connections stay with theirs.
        return _the_one, (self._text,)

    def exists(self) -> bool:
        """Whether it is there, so far as is known without asking again."""
        return True

    @property
    @abstractmethod
    def size(self) -> int:
        """In bytes; raises `InputError` or `WorkError` where it cannot be had."""

    @property
    @abstractmethod
    def version(self) -> Sequence[Any]:
        """What changes with its bytes."""

    @abstractmethod
    def require_unchanged(self) -> None:
        """Raise `InputError` where what was read of it may be of two images."""

    @abstractmethod
    def open(self, mode: str = "rb") -> Any:
        """Its bytes as a file."""

    @abstractmethod
    def raster(self) -> Any:
        """The rasterio data set; raises one of `GDAL_ERRORS`."""

    @abstractmethod
    def _write(self, file: IO[bytes]) -> None:
        """All of it."""

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """A copy here, meanwhile."""
        with TemporaryDirectory(prefix="salakseg-") as folder:
            path = Path(folder, "image").with_suffix(self.suffix)
            with path.open("wb") as file:
                self._write(file)
            yield path


ImagePath = Path | RemoteImage


class ImageAtUrl(RemoteImage):
    """An image behind a URL."""

    def __init__(self, url: str) -> None:
        """Raises `InputError` for a protocol that is not known, or lacks its package."""
        of_http = url.lower().startswith("http")
        base, mark, query = url.partition("?") if of_http else (url, "", "")
        folder, _, self._file = base.rpartition("/")
        if folder.endswith(":/") or not self._file:
            raise InputError(
                f"{shown_url(url)}: names no image; with / at the end its images are meant"
            )
        super().__init__(url, unquote(self._file) if of_http else self._file)
        self._bucket = _bucket(folder + mark + query)
        secret = of_http and (mark or "@" in urlsplit(url).netloc)
        kinds = () if secret else GDAL_NAMES.items()
        known = (
            name + url.removeprefix(ours) for name, ours in kinds if url.startswith(ours or "http")
        )
        self.gdal_name = next(known, None)

    def __str__(self) -> str:
        return self._bucket.shown(self._file)

    @cached_property
    def _about(self) -> dict[str, Any]:
        try:
            about = self._bucket.about(self._file)
        except FileNotFoundError as error:
            raise InputError(f"{self}: is not there") from error
        if about.get("type") == "directory":
            raise InputError(f"{self}: is a folder; with / at the end its images are meant")
        return about

    @property
    def size(self) -> int:
        size = self._about.get("size")
        if size is None:
            raise InputError(f"{self}: the server does not say how long it is; fetch it first")
        return int(size)

    @property
    def version(self) -> Sequence[Any]:
        return self.size, _version(self._about)

    def require_unchanged(self) -> None:
        try:
            now = self._bucket.about(self._file, now=True)
        except FileNotFoundError as error:
            raise InputError(f"{self}: is not there any more") from error
        if _version(now) != _version(self._about):
            raise InputError(f"{self}: was replaced while it was read; the same command maps it")

    def open(self, mode: str = "rb") -> Any:
        return RangeFile(self.size, self.read, self._stopped)

    def raster(self) -> Any:
        self._bucket.require_ranges(self._file, self.size)
        self.failure = None
        opener = Opener(self.name, self.size, self.read, self._stopped)
        return rasterio.open(self.name, driver="GTiff", opener=opener)

    def _write(self, file: IO[bytes]) -> None:
        file.write(self._whole(None, None))

    def read(self, start: int, end: int) -> bytes:
        """A part of it; zeros, and `failure`, where it cannot be had."""
        if self.failure is None:
            try:
                if end > self.size:
                    raise InputError(f"{self}: is cut off; upload it again, whole")
                return self._whole(start, end)
            except (InputError, WorkError, KeyboardInterrupt) as error:
                self.failure = error
        return bytes(end - start)

    def _stopped(self, stop: KeyboardInterrupt) -> None:
        self.failure = stop

    def _whole(self, start: int | None, end: int | None) -> bytes:
        try:
            content = self._bucket.read(self._file, start, end)
        except FileNotFoundError as error:
            raise InputError(f"{self}: is not there any more") from error
        if len(content) != (self.size if start is None or end is None else end - start):
            raise InputError(f"{self}: has another length than before; was it replaced?")
        return content


class ImageInZip(RemoteImage):
    """An image in a zip that is a file here."""

    def __init__(self, text: str, archive: str, member: str) -> None:
        """Of a zip's path, and a name in it."""
        super().__init__(text, PurePosixPath(member).name)
        self._archive, self._member = Path(archive), member
        self.gdal_name = f"/vsizip/{self._archive.absolute().as_posix()}/{member}"

    def __str__(self) -> str:
        return f"zip://{self._archive.as_posix()}!{self._member}"

    @property
    def size(self) -> int:
        return self._about.file_size

    @property
    def version(self) -> Sequence[Any]:
        return self._about.file_size, self._about.CRC

    def require_unchanged(self) -> None:
        """As of any file here it is not asked."""

    @cached_property
    def _about(self) -> zipfile.ZipInfo:
        try:
            with zipfile.ZipFile(self._archive) as archive:
                return archive.getinfo(self._member)
        except KeyError as error:
            raise InputError(f"{self}: is not in the zip") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{self}: the zip cannot be read ({error})") from error

    def open(self, mode: str = "rb") -> Any:
        return zipfile.ZipFile(self._archive).open(self._member)

    def raster(self) -> Any:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            return rasterio.open(self.gdal_name, driver="GTiff")

    def _write(self, file: IO[bytes]) -> None:
        try:
            with self.open() as member:
                while part := member.read(1 << 20):
                    file.write(part)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise InputError(f"{self}: cannot be unpacked ({error})") from error


def remote_images(text: str, suffixes: tuple[str, ...] = ()) -> list[RemoteImage] | None:
    """The image that a text names, or of a folder behind a URL those with these suffixes; None
    where it is a path, or a pattern of paths.

    Raises:
        InputError: not there, not allowed, or another of GDAL's names.
        WorkError: nothing answers.
    """
    if in_zip := IN_ZIP.fullmatch(text):
        if is_url(in_zip[1]) or re.match(r"/?vsi\w+/", in_zip[1]):
            raise InputError(f"{text}: a zip behind a URL is not read; fetch it first")
        return [ImageInZip(text, *in_zip.groups())]
    url = next(
        (
            ours + text.removeprefix(name)
            for name, ours in GDAL_NAMES.items()
            if text.startswith(name)
        ),
        text,
    )
    if url.startswith("/vsi") or url.startswith("zip://"):
        known = ", ".join([*GDAL_NAMES, "/vsizip/PHOTOS.zip/IMAGE"])
        raise InputError(f"{text}: of GDAL's own names {known} are known here, and URLs")
    if not is_url(url):
        return None
    base, mark, query = url.partition("?")
    if not base.endswith("/"):
        return [ImageAtUrl(url)]
    folder = _bucket(base.rstrip("/") + mark + query)
    images: list[RemoteImage] = [
        ImageAtUrl(base + name + mark + query)
        for name in folder.names()
        if name.lower().endswith(suffixes) and not name.startswith(".")
    ]
    if not images:
        raise InputError(f"{folder}/: no images in this folder; images are {', '.join(suffixes)}")
    return images


def _the_one(text: str) -> RemoteImage:
    images = remote_images(text)
    assert images is not None
    return images[0]


def ask_for(images: Sequence[ImagePath]) -> None:
    """Ask for the lengths and versions of many at once; raises as `RemoteImage.size`."""
    remote = [image for image in images if isinstance(image, RemoteImage)]
    with ThreadPoolExecutor(ASKED_AT_ONCE, "ask") as threads:
        list(threads.map(lambda image: image.size, remote))


@contextmanager
def answered(path: ImagePath) -> Iterator[None]:
    """Raise, in place of whatever GDAL says or does not say, what kept a part from being read; as
    it swallows what is raised in Python that it calls, Ctrl-C too."""
    try:
        yield
    finally:
        if isinstance(path, RemoteImage):
            if stopping.is_set():
                raise Stop
            if path.failure is not None:
                raise path.failure


@contextmanager
def local(path: ImagePath) -> Iterator[Path]:
    """The file, or a copy of it meanwhile."""
    if isinstance(path, Path):
        yield path
        return
    with path.copied() as copy:
        yield copy


def _version(about: dict[str, Any]) -> str:
    return next((str(about[name]) for name in VERSIONS if about.get(name)), "")


@lru_cache
def _bucket(url: str) -> Bucket:
    return Bucket(url)
