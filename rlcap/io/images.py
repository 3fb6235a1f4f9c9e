"""Opens image files safely, checks them quickly, and identifies them by their content.

No other module decodes pixels. A file with too many pixels is refused because of its header, before any pixel is
decoded, so that a decompression bomb does no harm. Every failure raises an `ImageError` that names the file, the value
seen and the fix.

    limit_pixels(200_000_000)                  # for this process, from data.max_pixels of the configuration
    image = open_image("photo.jpg")            # RGB, upright
    key = content_key("photo.jpg")             # sha256 of the bytes: the key of a cached embedding
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from rlcap.errors import ImageError

MAX_PIXELS = 50_000_000
"""Default limit of width × height. 50 megapixels decode to 150 MB of RGB, more than any captioner uses."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The formats that are opened, by Pillow's names, whatever the name of the file. Pillow has decoders of some forty more, which are
seldom used and little tested, and one of them (EPS) starts another program. A phone's MPO is a JPEG with further pictures, and is
opened as one. HEIF needs the package pillow-heif."""
V = TypeVar("V")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""The ends of the names of image files, in small letters."""
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


_limit = MAX_PIXELS


def limit_pixels(max_pixels: int) -> None:
    """Set the default limit for all images that this process opens later.

    Rewards, metrics, trainer and report open the same files without access to the configuration. So the limit applies
    to the process, like Pillow's own limit, which this function raises where necessary.
    """
    global _limit
    _limit = max_pixels
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(max_pixels, Image.MAX_IMAGE_PIXELS)


def open_image(path: str | os.PathLike, *, max_pixels: int | None = None) -> Image.Image:
    """Open an image as RGB, rotated according to its EXIF tag and with transparent parts over white.

    Args:
        path: The image file.
        max_pixels: The maximum width × height; None for the limit of the process (set by `limit_pixels`, by default
            `MAX_PIXELS`).

    Raises:
        ImageError: The file is missing, empty, truncated or not an image, or has more pixels than the limit.
    """
    with _open_header(path, max_pixels) as image:
        return _decode(image, path)


def decode_image(path: str | os.PathLike) -> None:
    """Decode the whole file and discard the pixels, to find damage in the middle of the file.

    A JPEG is decoded at an eighth of its size, which reads every bit but computes less. This takes 2 ms for a photo of
    0.3 megapixels and 20 ms for one of 12 megapixels; a PNG takes 40 ms per megapixel. Damage that the decoder silently
    replaces by grey pixels remains undetected.

    Raises:
        ImageError: See `open_image`.
    """
    with _open_header(path, None) as image:
        image.draft(None, (image.width // 8, image.height // 8))  # has no effect for other formats
        _decode(image, path)


def check_image(path: str | os.PathLike, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Check that a file is complete, and return its stored (width, height). This typically takes 0.1 ms.

    JPEG, PNG, GIF and WebP files have a mark at their end or state their length, so that their last bytes show a
    truncation without decoding. Where the end looks unusual, and for every other format, the file is decoded.

    Raises:
        ImageError: See `open_image`.
    """
    with _open_header(path, max_pixels) as image:
        assert image.fp is not None  # PIL keeps the file open until the pixels are read
        if not _has_complete_end(image.fp, image.format):
            try:
                image.load()
            except Exception as error:  # each decoder raises its own types
                raise _broken(path, error, "truncated image") from error
        return image.size


def embed_readable(
    embed: Callable[[list[str]], Sequence[V]], paths: Iterable[str]
) -> tuple[dict[str, V], dict[str, str]]:
    """Embed the readable images among `paths`, so that one broken file does not fail the whole batch.

    Args:
        embed: Maps paths to one vector each, and raises ImageError where it can't read an image.
        paths: The image files, possibly repeated.

    Returns:
        Path → vector for the readable images, and path → error message for the others.
    """
    unique = list(dict.fromkeys(paths))
    try:
        return dict(zip(unique, embed(unique) if unique else (), strict=True)), {}
    except ImageError:
        pass
    vectors: dict[str, V] = {}
    broken: dict[str, str] = {}
    for path in unique:
        try:
            vectors[path] = embed([path])[0]
        except ImageError as error:
            broken[path] = str(error)
    return vectors, broken


def content_key(path: str | os.PathLike) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits, cached until its size or modification time changes.

    Raises:
        ImageError: The file can't be read.
    """
    try:
        stat = os.stat(path)
        return _hash_file(os.fspath(path), stat.st_mtime_ns, stat.st_size)
    except OSError as error:  # missing, a folder, or without permission
        raise _unreadable(path, error) from error


@lru_cache(maxsize=1_000_000)
def _hash_file(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decode(image: Image.Image, path: str | os.PathLike) -> Image.Image:
    """Return the upright image as RGB. Raises ImageError where decoding fails."""
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # each decoder raises its own types; all of them mean that the file is broken
        raise _broken(path, error) from error


def _open_header(path: str | os.PathLike, max_pixels: int | None) -> ImageFile.ImageFile:
    """Open a file without decoding its pixels. Raises ImageError for a bad header or too many pixels."""
    max_pixels = _limit if max_pixels is None else max_pixels
    try:
        if not os.path.getsize(path):
            raise ImageError("empty image file", path, "0 bytes", "fetch the file again or remove its row")
        image = Image.open(path, formats=allowed_formats())
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels", path, str(error), "shrink the image or remove its row") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except ImageError:
        raise
    except Exception as error:  # a path with a NUL character, or a header that one of the decoders refuses
        if any(character in os.fspath(path) for character in ("\0", *map(chr, range(0xD800, 0xE000)))):
            raise ImageError(
                "unreadable image", ascii(os.fspath(path)), "no file can have such a name", "correct the path"
            ) from error
        raise _broken(path, error) from error
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


@lru_cache(maxsize=1)
def allowed_formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this installation can decode."""
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unidentified(path: str | os.PathLike) -> ImageError:
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc"):
        return ImageError("not an image", path, "it is a HEIF file", "install pillow-heif (pip install pillow-heif)")
    names = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
    return ImageError("not an image", path, f"it begins with {start[:8]!r}", f"use a {names} file")


def _unreadable(path: str | os.PathLike, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing image", path, "the file does not exist", "check the path and image_root")
    return ImageError("unreadable image", path, str(error), "check the path and its permissions")


def _broken(path: str | os.PathLike, error: Exception, kind: str = "broken image") -> ImageError:
    return ImageError(kind, path, f"decoding failed ({error})", "fetch the file again or remove its row")


def _has_complete_end(file: IO[bytes], format: str | None) -> bool:
    """Return whether the end of a file shows that it is complete; False for formats whose end does not show it."""
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
    """Return the image as RGB.

    Grey values are scaled by what their mode can hold, and never by the values in this image, so that a dark photo
    remains dark. Transparent parts lie over white in every mode.

    Raises:
        ValueError: The values do not tell what white is: those of a floating-point image lie outside [0, 1], those of a
            32-bit image outside 16 bits, or none is a number.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        transparent = image.info.get("transparency")
        if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # of a file with 16 bits a channel
        rgba = image.convert("RGBA") if image.mode != "La" else image.convert("LA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of 16 or 32 bits of grey, or of floating-point grey, as RGB."""
    values = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).any():
        raise ValueError("none of the values of this image is a number; save it again")
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        if low < 0 or high > 1:
            raise ValueError(
                f"a floating-point image must have values from 0 to 1, this one has {low:g} to {high:g}; save it with 8 "
                "or 16 bits"
            )
        white = 1.0
    else:
        white = 65535.0  # Pillow opens 16-bit files as I;16 or I
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > white:
            raise ValueError(
                f"an image of more than 8 bits must have values from 0 to {white:g}, this one has {low:g} to {high:g}; save it "
                "with 8 or 16 bits"
            )
    grey = np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8)
    if (hidden := image.info.get("transparency")) is not None and not isinstance(hidden, bytes | tuple):
        grey[values == hidden] = 255
    return Image.fromarray(grey).convert("RGB")
