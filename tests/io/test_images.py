import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from rlcap.errors import ImageError
from rlcap.io.images import MAX_PIXELS, check_image, content_key, decode_image, limit_pixels, open_image


def photo(size=(64, 48), mode="RGB", seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(path, image=None, **options):
    (image or photo()).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_complete_files_open_and_truncated_files_are_named(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}")
    assert open_image(path).mode == "RGB"
    assert check_image(path) == (64, 48)
    data = path.read_bytes()
    for keep in (0.98, 0.6):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(ImageError, match="cut") as caught:
            check_image(cut)
        assert caught.value.kind in ("truncated image", "not an image", "unreadable image")


def test_a_jpeg_with_bytes_after_its_end_is_complete(tmp_path):
    path = saved(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"maker's appendix")
    assert check_image(path) == (64, 48)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"", "empty image file"), (b"hello, I am text", "not an image"), (None, "missing image")]
)
def test_files_that_are_not_images(tmp_path, content, kind):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    for opener in (open_image, check_image):
        with pytest.raises(ImageError, match=r"a\.jpg") as caught:
            opener(path)
        assert caught.value.kind == kind


def test_too_many_pixels_are_refused_from_the_header(tmp_path):
    path = saved(tmp_path / "big.png", Image.new("L", (4000, 3000)))
    with pytest.raises(ImageError, match=r"4000 × 3000 = 12,000,000 pixels, the limit is 1,000,000"):
        open_image(path, max_pixels=1_000_000)


@pytest.fixture
def own_limit():
    """Restore the pixel limit of the process after a test."""
    pillow_limit = Image.MAX_IMAGE_PIXELS
    yield
    limit_pixels(MAX_PIXELS)
    Image.MAX_IMAGE_PIXELS = pillow_limit


def test_the_limit_of_the_process_is_the_default(tmp_path, own_limit):
    path = saved(tmp_path / "a.png")
    limit_pixels(64 * 48 - 1)
    for opener in (open_image, check_image, decode_image):
        with pytest.raises(ImageError, match=r"3,072 pixels, the limit is 3,071; .*data\.max_pixels"):
            opener(path)
    limit_pixels(64 * 48)
    assert open_image(path).size == (64, 48)
    assert open_image(path, max_pixels=5000).size == (64, 48)


def test_a_raised_limit_also_raises_the_limit_of_pillow(tmp_path, own_limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = saved(tmp_path / "a.png")
    with pytest.raises(ImageError, match="decompression bomb"):
        open_image(path)
    limit_pixels(100_000)
    assert open_image(path).size == (64, 48)


def broken_in_the_middle(path):
    """Write an image with intact header and end: a PNG with corrupt pixel data or a JPEG with a misplaced marker."""
    saved(path, photo((200, 150)))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff" * 40 if path.suffix == ".png" else b"\xff\xc4\x00\x03" * 10
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_damage_in_the_middle_is_found_by_decoding(tmp_path, suffix):
    path = broken_in_the_middle(tmp_path / f"a.{suffix}")
    assert check_image(path) == (200, 150)
    for opener in (decode_image, open_image):
        with pytest.raises(ImageError, match="decoding failed") as caught:
            opener(path)
        assert caught.value.kind == "broken image"
    assert decode_image(saved(path, photo((200, 150)))) is None


def test_each_file_is_decoded_once_until_it_changes(tmp_path, monkeypatch):
    from rlcap.data import decoding

    good, broken = saved(tmp_path / "good.png"), broken_in_the_middle(tmp_path / "broken.png")
    decoded = []
    monkeypatch.setattr(decoding, "decode_image", lambda path: (decoded.append(path), decode_image(path)))

    def undecodable():
        decoded.clear()
        return list(decoding.find_undecodable([str(good), str(broken), str(good)], tmp_path / "deep" / "notes.txt"))

    assert undecodable() == [str(broken)]
    assert sorted(decoded) == sorted([str(good), str(broken)])
    assert undecodable() == [str(broken)]
    assert decoded == [str(broken)]  # a broken file is decoded again, because it may have been repaired
    with (tmp_path / "deep" / "notes.txt").open("a") as notes:
        notes.write("0123456789")  # the incomplete line of a killed process
    saved(good, photo((10, 10)))
    saved(broken)
    assert undecodable() == []
    assert len(decoded) == 2
    assert (undecodable(), decoded) == ([], [])


def test_a_decompression_bomb_costs_nothing(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # the header now claims 3.6 gigapixels
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(bytes(data))
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert caught.value.kind == "too many pixels"


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated: the image must be rotated by 270°
    path = saved(tmp_path / "a.jpg", exif=exif)
    assert open_image(path).size == (48, 64)


def test_transparency_lies_over_white(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_greys_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    path = saved(tmp_path / "a.png", Image.fromarray(ramp))
    red = np.asarray(open_image(path))[..., 0].ravel()
    assert red[0] == 0
    assert red[-1] == 255
    assert abs(int(red[128]) - 128) <= 1


def test_greys_are_scaled_by_their_mode_and_not_by_their_values(tmp_path):
    dark = np.full((4, 4), 300, np.uint16)  # 300 of 65535 is nearly black
    assert open_image(saved(tmp_path / "a.tiff", Image.fromarray(dark))).getpixel((0, 0)) == (1, 1, 1)
    deep = np.full((4, 4), 300, np.int32)
    assert open_image(saved(tmp_path / "b.tiff", Image.fromarray(deep))).getpixel((0, 0)) == (1, 1, 1)
    half = np.full((4, 4), 0.5, np.float32)
    assert open_image(saved(tmp_path / "c.tiff", Image.fromarray(half))).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("brightest", [1000.0, -0.5, np.inf])
def test_a_float_image_with_an_unknown_range_is_rejected(tmp_path, brightest):
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = brightest
    with pytest.raises(ImageError, match="must have values from 0 to 1, this one has"):
        open_image(saved(tmp_path / "a.tiff", Image.fromarray(values)))


@pytest.mark.parametrize("values", [[0, 2**31 - 1], [-1000, 1000]])
def test_a_32_bit_image_with_an_unknown_range_is_rejected(tmp_path, values):
    with pytest.raises(ImageError, match="must have values from 0 to 65535, this one has"):
        open_image(saved(tmp_path / "a.tiff", Image.fromarray(np.array([values], np.int32))))


def test_an_image_without_a_number_is_rejected(tmp_path):
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.full((4, 4), np.nan, np.float32)))
    with pytest.raises(ImageError, match="none of the values of this image is a number"):
        open_image(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "PA", "I;16", "1"])
def test_transparency_lies_over_white_in_every_mode(tmp_path, mode):
    """One half of the image is hidden by a transparent colour or by its alpha channel; below it is black."""
    path = tmp_path / "a.png"
    if mode in ("LA", "RGBA", "PA"):
        image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
        image.paste((200, 200, 200, 255), (2, 0, 4, 2))
        (image.quantize(4) if mode == "PA" else image.convert(mode)).save(path)
    else:
        black, bright = ((0, 0, 0), (200, 200, 200)) if mode == "RGB" else (0, {"I;16": 51400, "1": 1}.get(mode, 200))
        image = Image.new("L" if mode == "P" else mode, (4, 2), black)
        image.paste(bright, (2, 0, 4, 2))
        (image.convert("P") if mode == "P" else image).save(path, transparency=black)
    found = open_image(path)
    assert found.mode == "RGB"
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert min(found.getpixel((3, 0))) >= 198


def test_a_picture_with_an_enormous_text_is_a_broken_image(tmp_path):
    path = saved(tmp_path / "a.png")
    data = path.read_bytes()
    body = b"zTXt" + b"note\0\0" + zlib.compress(bytes(200 * 2**20), 1)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])
    for look in (open_image, check_image):
        with pytest.raises(ImageError, match=r"a\.png: decoding failed"):
            look(path)


@pytest.mark.parametrize("name", ["a\0b.png", "a\ud800.png"])
def test_a_path_that_no_file_can_have(name):
    with pytest.raises(ImageError, match="no file can have such a name") as error:
        open_image(name)
    str(error.value).encode()


def test_an_image_is_known_by_its_content_and_not_by_its_name(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n{} loop\n")
    with pytest.raises(ImageError, match=r"not an image: .*it begins with b'%!PS-Ado'"):
        open_image(tmp_path / "photo.jpg")
    (tmp_path / "photo.png").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match="it is a HEIF file; install pillow-heif"):
        open_image(tmp_path / "photo.png")


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    assert open_image(saved(tmp_path / "a.tiff", photo(mode=mode))).mode == "RGB"


def test_content_key_follows_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert content_key(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abcd")
    assert content_key(path) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(ImageError):
        content_key(tmp_path / "none")


def test_checking_a_small_file_takes_under_a_millisecond(tmp_path):
    path = saved(tmp_path / "a.jpg", photo((640, 480)))
    best = min(_seconds(lambda: check_image(path)) for _ in range(20))
    assert best < 1e-3


def _seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@pytest.mark.parametrize("suffix", ["ppm", "eps", "ico", "tga", "pcx"])
def test_formats_that_are_seldom_used_are_refused(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (32, 32)).save(path)
    Image.open(path).close()  # Pillow itself would open it
    with pytest.raises(ImageError, match="use a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file"):
        open_image(path)
    with pytest.raises(ImageError):
        check_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "mpo", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_common_formats_are_opened(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (32, 24)).save(path)
    assert open_image(path).size == check_image(path) == (32, 24)
