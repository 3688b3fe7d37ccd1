"""A JPEG that was cut and closed again is refused, and a whole one is decoded to what Pillow makes of it."""

import contextlib
import io
import time

import numpy as np
import pytest
from PIL import Image

from pictures import picture

WAYS = {
    "baseline": {},
    "whole colours": {"subsampling": 0},
    "own tables": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "progressive with restarts": {"progressive": True, "restart_marker_blocks": 5},
}
LOOK_AHEAD = 24  # bytes at the end that may be missing without a sign; they hold the last block or two
SIDES = (None, 16, 100)


def photo(way, mode="RGB", size=(320, 200)):
    grain = np.random.default_rng(0).normal(127, 50, (size[1] // 8, size[0] // 8, 3)).clip(0, 255).astype(np.uint8)
    body = io.BytesIO()
    Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC).convert(mode).save(body, "JPEG", **WAYS[way])
    return body.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("way", WAYS)
def test_a_picture_cut_and_closed_is_refused(way, mode):
    if (mode, way[:11]) == ("CMYK", "progressive"):
        mode = "RGB"  # its last scan is of the black, of which these pictures have none
    body = photo(way, mode)
    # The last scan of a progressive picture adds what a smaller one does not show.
    sides = (None,) if "progressive" in way else SIDES
    for cut in cuts(body):
        for side in sides:
            with pytest.raises(picture.BadImage) as caught:
                picture.decode(cut, side=side)
            assert caught.value.code == "TRUNCATED"


@pytest.mark.parametrize(("mode", "side"), [("RGB", 16), ("CMYK", None)])
def test_a_cut_that_is_not_refused_does_not_show(mode, side):
    body = photo("progressive", mode)
    whole = picture.decode(body, side=side).tobytes()
    for cut in cuts(body):
        with contextlib.suppress(picture.BadImage):
            assert picture.decode(cut, side=side).tobytes() == whole


def cuts(body):
    begin = body.rindex(b"\xff\xda") + 20
    for end in np.linspace(begin, len(body) - 2 - LOOK_AHEAD, 12).astype(int):
        yield body[:end].rstrip(b"\xff") + b"\xff\xd9"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(320, 200), (1, 1), (9, 400), (400, 9)])
def test_a_whole_picture_is_what_pillow_makes_of_it(way, mode, size):
    body = photo(way, mode, (max(8, size[0]), max(8, size[1])))
    for side in SIDES:
        expected = Image.open(io.BytesIO(body))
        if side:
            expected.draft(None, (side, side))
        assert picture.decode(body, side=side).tobytes() == expected.convert("RGB").tobytes()


def test_a_picture_without_its_last_scans_is_refused():
    body = photo("progressive")
    with pytest.raises(picture.BadImage, match="last scans"):
        picture.decode(body[: body.rindex(b"\xff\xda")] + b"\xff\xd9")


def test_a_picture_without_an_end_is_refused():
    with pytest.raises(picture.BadImage, match="no end marker"):
        picture.decode(photo("baseline")[:-2])


def test_what_stands_behind_the_picture_counts_for_nothing():
    body = photo("baseline")
    assert picture.decode(body + photo("progressive")[:-40]).tobytes() == picture.decode(body).tobytes()


@pytest.mark.parametrize("way", ["baseline", "progressive"])
def test_fill_bytes_cost_little(way):
    body = photo(way)
    whole, began = picture.decode(body, side=64).tobytes(), time.process_time()
    assert picture.decode(body[:-2] + b"\xff" * 2**23 + b"\0" + body[-2:], side=64).tobytes() == whole
    assert time.process_time() - began < 2
