"""Image files: opening one safely, checking one cheaply, naming one by its content.

Pixels are decoded only here. A file is refused from its header when it has too many pixels, before any of them is
decoded, so that a decompression bomb costs nothing. Every failure is an `ImageError` that names the file, what was
seen and what to do.

    limit_pixels(200_000_000)                  # of this process: what a run's data.max_pixels says
    image = open_image("photo.jpg")            # RGB, upright
    key = content_key("photo.jpg")             # sha256 of the bytes: the name under which an embedding is cached
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rlcap.errors import ImageError

MAX_PIXELS = 50_000_000
"""Default limit of width × height. 50 megapixels decode to 150 MB of RGB, more than any captioner looks at."""

V = TypeVar("V")
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


_limit = MAX_PIXELS


def limit_pixels(max_pixels: int) -> None:
    """Set the limit of every later opening in this process that names none.

    Rewards, metrics, trainer and report open the same files and none of them knows the configuration: the limit is one
    for the process, as Pillow's own is, which is raised with it.
    """
    global _limit
    _limit = max_pixels
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(max_pixels, Image.MAX_IMAGE_PIXELS)


def open_image(path: str | os.PathLike, *, max_pixels: int | None = None) -> Image.Image:
    """The image as RGB, rotated as its EXIF tag says, transparency laid over white.

    Args:
        max_pixels: the most pixels (width × height); None for the process's limit (`limit_pixels`, else `MAX_PIXELS`).

    Raises:
        ImageError: missing, empty, truncated, not an image, or more pixels than the limit.
    """
    with _open_header(path, max_pixels) as image:
        return _decoded(image, path)


def decode_image(path: str | os.PathLike) -> None:
    """Decode the whole file, as `open_image` does, and forget the pixels: finds what is broken in its middle.

    A JPEG is decoded at an eighth of its size: every bit of it is read, but less computed. 2 ms for a photo of 0.3
    megapixels, 20 ms for 12; a PNG takes 40 ms a megapixel. What a decoder paints over in grey without a word is not found.

    Raises:
        ImageError: as `open_image`.
    """
    with _open_header(path, None) as image:
        image.draft(None, (image.width // 8, image.height // 8))  # does nothing to other formats
        _decoded(image, path)


def check_image(path: str | os.PathLike, *, max_pixels: int | None = None) -> tuple[int, int]:
    """(width, height) as stored, after making sure that the file is whole. Typically 0.1 ms.

    JPEG, PNG, GIF and WebP say where they end, so a truncated one is found from its last bytes without decoding; where
    the end looks unusual, and for every other format, the file is decoded to be sure.

    Raises:
        ImageError: as `open_image`.
    """
    with _open_header(path, max_pixels) as image:
        if not _ends_as_it_should(image.fp, image.format):
            try:
                image.load()
            except Exception as error:  # see open_image
                raise _broken(path, error, "truncated image") from error
        return image.size


def embed_readable(
    embed: Callable[[list[str]], Sequence[V]], paths: Iterable[str]
) -> tuple[dict[str, V], dict[str, str]]:
    """(path → vector, path → why its image can't be read). One broken file costs its own rows, not the batch.

    embed: paths → one vector each; raises ImageError where it can't read one.
    """
    wanted = list(dict.fromkeys(paths))
    try:
        return dict(zip(wanted, embed(wanted) if wanted else (), strict=True)), {}
    except ImageError:
        pass
    found: dict[str, V] = {}
    broken: dict[str, str] = {}
    for path in wanted:
        try:
            found[path] = embed([path])[0]
        except ImageError as error:
            broken[path] = str(error)
    return found, broken


def content_key(path: str | os.PathLike) -> str:
    """sha256 of the file's bytes as 64 hex digits; remembered until the file's size or modification time changes."""
    try:
        stat = os.stat(path)
        return _hash_file(os.fspath(path), stat.st_mtime_ns, stat.st_size)
    except OSError as error:  # not there, a folder, no permission
        raise _unreadable(path, error) from error


@lru_cache(maxsize=1_000_000)
def _hash_file(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decoded(image: Image.Image, path: str | os.PathLike) -> Image.Image:
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # each decoder raises its own types; all of them mean that the file is broken
        raise _broken(path, error) from error


def _open_header(path: str | os.PathLike, max_pixels: int | None) -> Image.Image:
    max_pixels = _limit if max_pixels is None else max_pixels
    try:
        if not os.path.getsize(path):
            raise ImageError("empty image file", path, "0 bytes", "fetch the file again or remove its row")
        image = Image.open(path)
    except UnidentifiedImageError as error:
        start = Path(path).read_bytes()[:8]
        raise ImageError(
            "not an image", path, f"it begins with {start!r}", "give a JPEG, PNG, WebP, GIF, BMP or TIFF file"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels", path, str(error), "shrink the image or remove its row") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise ImageError(
            "too many pixels",
            path,
            f"{width} × {height} = {width * height:,} pixels, the limit is {max_pixels:,}",
            "shrink the image, remove its row, or raise data.max_pixels",
        )
    return image


def _unreadable(path: str | os.PathLike, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing image", path, "there is no such file", "check the path and image_root")
    return ImageError("unreadable image", path, str(error), "check the path and its permissions")


def _broken(path: str | os.PathLike, error: Exception, kind: str = "broken image") -> ImageError:
    return ImageError(kind, path, f"decoding failed ({error})", "fetch the file again or remove its row")


def _ends_as_it_should(file: BinaryIO, format: str | None) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 12))
    tail = file.read(12)
    file.seek(0)
    head = file.read(8)
    if format in ("JPEG", "MPO"):
        return tail.endswith(b"\xff\xd9")
    if format == "PNG":
        return tail == _PNG_END
    if format == "GIF":
        return tail.endswith(b"\x00\x3b")
    if format == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips wide greys to 255 instead of scaling them: a 16-bit picture would come out white.
        values = np.nan_to_num(np.asarray(image, dtype=np.float32)).clip(min=0)
        brightest = float(values.max(initial=0))
        ceiling = next(top for top in (255.0, 65535.0, brightest) if brightest <= top)
        return Image.fromarray((values * (255 / ceiling)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
