"""Golden images in requests that an endpoint can take."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from retraining.release.golden import MAX_INSTANCES, SAFE_BODY_BYTES, Golden, choose, instances, pack
from retraining.steps.comparison import golden_images


def png(side: int, padding: int = 0) -> bytes:
    """A picture of side x side pixels, with bytes behind it that no reader looks at."""
    out = io.BytesIO()
    Image.new("L", (side, side)).save(out, "PNG")
    return out.getvalue() + bytes(padding)


def golden(name: str, body: bytes) -> Golden:
    return Golden(entry=f"{name}/1.png", label=name, body=body)


def test_small_images_travel_together() -> None:
    images = [golden(name, png(20)) for name in "abcde"]
    (request,) = pack(images)
    assert request == images
    assert len(json.loads(instances(request))["instances"]) == 5


def test_bytes_are_counted_as_the_request_holds_them() -> None:
    """Five photographs of three megabytes, each four as text."""
    requests = pack([golden(name, png(20, 2_900_000)) for name in "abcde"])
    assert [len(request) for request in requests] == [1] * 5
    requests = pack([golden(name, png(20, 1_400_000)) for name in "abcde"])
    assert [len(request) for request in requests] == [3, 2]
    assert all(len(instances(request)) <= SAFE_BODY_BYTES for request in requests)


def test_pixels_are_counted_too() -> None:
    images = [golden(name, png(100)) for name in "abcd"]
    assert [len(request) for request in pack(images, max_pixels=25_000)] == [2, 2]


def test_one_image_beyond_a_limit_travels_alone() -> None:
    images = [golden("a", png(20)), golden("b", png(20, SAFE_BODY_BYTES)), golden("c", png(20))]
    assert [[image.label for image in request] for request in pack(images)] == [["a"], ["b"], ["c"]]


def test_a_request_holds_no_more_instances_than_are_accepted() -> None:
    requests = pack([golden(str(number), png(20)) for number in range(MAX_INSTANCES + 1)])
    assert [len(request) for request in requests] == [MAX_INSTANCES, 1]


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [([0, 0], "0"), ([SAFE_BODY_BYTES, 0], "1"), ([SAFE_BODY_BYTES + 9, SAFE_BODY_BYTES], "1")],
    ids=["surest", "first that fits", "smallest"],
)
def test_each_class_is_asked_by_its_first_image_that_fits(sizes: list[int], chosen: str) -> None:
    bodies = {f"a/{number}.png": png(20, size) for number, size in enumerate(sizes)}
    (image,) = choose(dict.fromkeys(bodies, "a"), bodies.__getitem__)
    assert image.entry == f"a/{chosen}.png"


def test_alternatives_are_fetched_only_when_needed() -> None:
    fetched: list[str] = []

    def fetch(entry: str) -> bytes:
        fetched.append(entry)
        return png(20)

    choose({"a/0.png": "a", "a/1.png": "a", "b/0.png": "b"}, fetch)
    assert fetched == ["a/0.png", "b/0.png"]


@pytest.mark.parametrize("many", [2, 10, 15, 133])
def test_classes_are_asked_about_from_all_over(many: int) -> None:
    classes = [f"{number:03}" for number in range(many)]
    expected = {f"{label}/{n}.png": label for label in classes for n in range(4)}
    sure = {name: [float(label == one) for one in classes] for name, label in expected.items()}
    asked = {label: classes.index(label) for label in golden_images(classes, expected, sure).values()}
    assert len(asked) == min(many, 10)
    assert min(asked.values()) == 0 and max(asked.values()) >= 0.85 * (many - 1)


def test_a_class_that_is_never_right_leaves_its_place() -> None:
    classes = [f"{number:03}" for number in range(30)]
    expected = {f"{label}/1.png": label for label in classes}
    wrong = {"000", "003", "006"}
    sure = {name: [float((label == one) != (label in wrong)) for one in classes] for name, label in expected.items()}
    asked = set(golden_images(classes, expected, sure).values())
    assert len(asked) == 10 and not asked & wrong
