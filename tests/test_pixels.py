"""Whatever a picture is stored as, all that read it see the same colours, the right way up."""

import ast
import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features

from vlg.data import captioned, pictures, pixels
from vlg.report import gallery, sheets
from vlg.workflow.codehash import code_hash

SCRIPTS = Path(__file__).parents[1] / "scripts"
RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64)


def stored(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(data, *background):
    return np.asarray(pixels.read(data, *background))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, bits, colours, row, key):
    """A PNG of one row, with one transparent colour."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colours, 0, 0, 0))
    body = chunk(b"tRNS", key) + chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((np.uint16, kind) for kind in ("PNG", "TIFF", "PPM")),
        *((np.int32, kind) for kind in ("TIFF", "PPM")),
        (np.float32, "TIFF"),
    ],
)
def test_more_than_8_bits_of_grey_are_scaled_by_their_depth(mode, kind):
    ramp = RAMP / 65535 if mode is np.float32 else RAMP
    data = stored(Image.fromarray(ramp.astype(mode)), kind)
    shown = seen(data).astype(float)
    assert shown.mean() == pytest.approx(127.5, abs=0.5)
    assert np.abs(shown - (RAMP / 257)[..., None]).max() < 1


def test_depth_and_direction_of_a_tiff_are_its_own():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # 0 is white
    data = stored(Image.fromarray(RAMP.astype(np.uint16)), "TIFF", tiffinfo=tags)
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert seen(data)[0, 0].tolist() == [255] * 3 and seen(data)[-1, -1].tolist() == [0] * 3
    twelve = struct.pack("<HI", 42, 8) + struct.pack("<H", 8)
    for tag, value in {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 110, 278: 1, 279: 3}.items():
        twelve += struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value)
    twelve = (b"II" + twelve + struct.pack("<I", 0)).ljust(110, b"\0") + b"\xff\xf0\x00"
    assert seen(twelve)[0].tolist() == [[255] * 3, [0] * 3]  # 4095 and 0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (RAMP.astype(np.float32), "TIFF"),
        (np.full((8, 8), np.nan, np.float32), "TIFF"),
        ((RAMP - 9).astype(np.int32), "TIFF"),
        ((RAMP * 2).astype(np.int32), "TIFF"),
        ((RAMP / 65535 * 200).astype(np.int32), "TIFF"),  # of 8 bits or of 32?
    ],
)
def test_what_says_nothing_of_its_depth_is_of_an_unknown_kind(values, kind):
    with pytest.raises(pixels.Unreadable, match="no known depth") as error:
        pixels.read(stored(Image.fromarray(values), kind))
    assert error.value.kind == pixels.UNKNOWN


def signed(values, order="<"):
    """A TIFF of signed numbers, in rows of 64."""
    values = values.astype(values.dtype.newbyteorder(order))
    tags = {256: 64, 257: values.size // 64, 258: values.itemsize * 8, 259: 1, 262: 1, 273: 134}
    tags |= {277: 1, 278: values.size // 64, 279: values.nbytes, 339: 2}
    data = struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, value in tags.items():
        data += struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
    return ((b"II" if order == "<" else b"MM") + data).ljust(134, b"\0") + values.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.int8, np.int16])
def test_signed_numbers_are_scaled_by_their_positive_half(kind, order):
    most = np.iinfo(kind).max
    data = signed(np.round(RAMP / 65535 * most).astype(kind), order)
    shown = seen(data).astype(float)
    assert np.abs(shown - (RAMP / 257)[..., None]).max() < 1.5
    with pytest.raises(pixels.Unreadable, match="no known depth") as error:
        pixels.read(signed(np.full(64, -1, kind), order))
    assert error.value.kind == pixels.UNKNOWN


def test_signed_numbers_of_32_bits_are_of_16_where_they_show_it():
    shown = seen(signed(RAMP.astype(np.int32))).astype(float)
    assert np.abs(shown - (RAMP / 257)[..., None]).max() < 1


HOLE = np.zeros((4, 4, 4), np.uint8)  # the upper half is hidden black, the lower an opaque colour
HOLE[2:] = 200, 200, 200, 255


def holed():
    """{case: (bytes, how far colours may be off)} of HOLE in all modes that have alpha."""
    picture, palette = Image.fromarray(HOLE), Image.fromarray(HOLE[..., 0] // 200).convert("P")
    palette.putpalette([0, 0, 0, 200, 200, 200])
    cases = {
        f"{mode} {kind}": (stored(picture.convert(mode), kind, lossless=True), 0)
        for mode in ("RGBA", "LA")
        for kind in ("PNG", "TIFF", "WEBP")
    }
    cases |= {f"P {kind}": (stored(palette, kind, transparency=0), 0) for kind in ("PNG", "GIF")}
    if features.check("avif"):
        cases["AVIF"] = stored(picture, "AVIF", quality=100), 4
    return cases


@pytest.mark.parametrize("case", holed())
def test_a_colour_shows_through_holes_in_every_mode(case):
    data, tolerance = holed()[case]
    for background, colour in (((), 255), (("black",), 0), (("#808080",), 128)):
        shown = seen(data, *background).astype(int)
        assert np.abs(shown[0, 0] - colour).max() <= tolerance
        assert np.abs(shown[3, 3] - 200).max() <= tolerance
    assert np.array_equal(seen(pixels.without_holes(data, "black")), seen(data, "black"))


def test_half_transparency_mixes():
    data = stored(Image.new("RGBA", (4, 4), (255, 0, 0, 128)))
    assert seen(data)[0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize(
    ("bits", "colours", "row", "key", "expected"),
    [
        (2, 0, bytes([0b00011011]), struct.pack(">H", 3), [0, 85, 170, 9]),
        (4, 0, bytes([0x0F, 0x50]), struct.pack(">H", 5), [0, 255, 9]),
        (8, 0, bytes([0, 7, 255]), struct.pack(">H", 7), [0, 9, 255]),
        (16, 0, struct.pack(">2H", 1000, 65535), struct.pack(">H", 1000), [9, 255]),
        (16, 2, struct.pack(">6H", 1, 2, 3, *[65535] * 3), struct.pack(">3H", 1, 2, 3), [9, 255]),
    ],
)
def test_the_one_transparent_colour_of_a_png_at_every_depth(bits, colours, row, key, expected):
    data = png(len(expected), bits, colours, row, key)
    assert seen(data, "#090909")[0, :, 0].tolist() == expected


def test_palettes_cmyk_and_other_modes_have_their_colours():
    red = Image.new("RGB", (8, 8), (200, 30, 10))
    palette = red.quantize(4)
    for data in (
        stored(palette),
        stored(palette, "GIF"),
        stored(palette, "BMP"),
        stored(red.convert("CMYK"), "TIFF"),
        stored(red.convert("CMYK"), "JPEG", quality=100),
        stored(red.convert("YCbCr"), "JPEG", quality=100, subsampling=0),
    ):
        assert np.abs(seen(data)[4, 4].astype(int) - [200, 30, 10]).max() <= 3
        assert pixels.without_holes(data, "white") is None
    assert seen(stored(Image.new("1", (8, 8), 1)))[0, 0].tolist() == [255] * 3


def test_opaque_alpha_is_no_hole():
    assert pixels.without_holes(stored(Image.new("RGBA", (4, 4), (9, 8, 7, 255))), "white") is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_reader_turns_a_picture_as_its_exif_says(tmp_path, kind, orientation):
    """The same picture stored in eight ways, looked at by each reader."""
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4, :8] = 255  # the upper left is white
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    turned = Image.fromarray(upright)
    turned = turned if back is None else turned.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "a.png"
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    path.write_bytes(stored(turned, kind, exif=exif, **options))

    def is_upright(picture):
        shown = np.asarray(picture).astype(int)
        high, wide = shown.shape[0], shown.shape[1]
        assert wide == 2 * high
        corner = shown[high // 4, wide // 4].mean(), shown[high // 4, 3 * wide // 4].mean()
        return corner[0] > 200 and corner[1] < 50 and shown[3 * high // 4].mean() < 50

    assert is_upright(pixels.read(path))
    assert pixels.size(path) == (16, 8)
    assert is_upright(pictures.load(path))
    assert is_upright(sheets._picture(path))
    shown = captioned.read_picture(path, 8)  # the middle square
    assert shown[0, 1, 1] > 0.8 and shown[0, 6, 1] < 0.2 and shown[0, 1, 6] < 0.2
    page = tmp_path / "page.webp"
    page.write_bytes(gallery.base64.b64decode(gallery._uri(path).partition(",")[2]))
    assert is_upright(Image.open(page).convert("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_orientation_that_does_not_exist_turns_nothing(kind):
    exif = Image.Exif()
    exif[274] = 9
    data = stored(Image.new("RGB", (16, 8)), kind, exif=exif)
    assert pixels.size(data) == pixels.read(data).size == (16, 8)


def test_a_studys_own_pictures_are_read_as_they_were_drawn(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    pictures.save(tmp_path / "a.png", drawn, {"key": "k"})
    assert np.array_equal(pictures.load(tmp_path / "a.png"), drawn)
    assert pixels.without_holes(tmp_path / "a.png", "white") is None


def test_a_file_that_is_no_picture_is_told_on_one_line(tmp_path):
    for data in (b"", b"text", stored(Image.new("RGB", (9, 9)))[:40]):
        with pytest.raises(pixels.Unreadable) as error:
            pixels.read(data)
        assert error.value.kind == pixels.BROKEN and "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        pixels.read(tmp_path / "gone.png")


def test_nobody_else_decodes_pictures():
    """`pictures.kept` opens the study's own PNGs for the text in them."""
    opening = {
        path.relative_to(SCRIPTS).as_posix()
        for path in SCRIPTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open"
    }
    assert opening == {"vlg/data/pixels.py", "vlg/data/pictures.py"}


def test_how_pictures_are_read_is_part_of_what_is_made_of_them(tmp_path):
    def hashes(name):
        copied = shutil.copytree(SCRIPTS, tmp_path / name)
        file = copied / "vlg/data/pixels.py"
        file.write_text(file.read_text("utf-8").replace("255.0", name), "utf-8")
        return {name: code_hash(copied / f"{name}.py") for name in (*readers, "prompts", "table")}

    readers = {"dataset", "encode", "refine", "score", "gallery", "sheets"}
    before, after = hashes("255.0"), hashes("254.0")
    assert {name for name in before if before[name] != after[name]} == readers
