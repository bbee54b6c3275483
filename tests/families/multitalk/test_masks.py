"""Masks of people: the arithmetic, against whole masks that are scaled and cropped as the picture is."""

import math

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.people import PersonEntry, speaker
from talkverse_jax.families.multitalk.boxes import Box
from talkverse_jax.families.multitalk.family import FAMILY
from talkverse_jax.families.multitalk.masks import Cells, nearest, on_tokens, read_masks, strip
from talkverse_jax.media.buckets import choose
from talkverse_jax.media.fit import framing
from tests.conftest import CONFIGS

REAL = FAMILY.real_size()
PUBLISHED = Cells.of(REAL.dit, REAL.vae)


def scaled(mask, size):
    """As PyTorch's nearest neighbour, one value after the other."""
    place = lambda i, of, to: min(math.floor(np.float32(i) * (np.float32(of) / np.float32(to))), of - 1)  # noqa: E731
    rows, columns = ([place(i, of, to) for i in range(to)] for of, to in zip(mask.shape, size))
    return mask[np.ix_(rows, columns)]


def whole(mask, size, latent=8):
    """A mask of the picture's size, made latents as the picture is made a video of a size."""
    scale = max(size[0] / mask.shape[0], size[1] / mask.shape[1])
    larger = scaled(mask, [math.ceil(scale * side) for side in mask.shape])
    top, left = (round((side - wanted) / 2) for side, wanted in zip(larger.shape, size))
    return scaled(larger[top : top + size[0], left : left + size[1]], [side // latent for side in size]) > 0


def painted(picture, box):
    top, left, bottom, right = box
    mask = np.zeros(picture, np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def masks(picture, people=2, bucket="multitalk-480", bbox=(), mask=(), cells=PUBLISHED):
    size = choose(bucket, *picture)
    return read_masks(people, bbox, mask, framing(picture, size, "fill"), cells), size


BOXES = {
    (1440, 2560): ["160,120,1280,1080", "160,1320,1280,2280"],
    (70, 80): ["5,40,60,78", "8,4,66,36"],  # the first person on the right
    (901, 1237): ["101,37,899,611", "77,700,850,1236"],
    (2000, 711): ["3,5,990,709", "1010,0,1990,700"],
}


@pytest.mark.parametrize("picture", BOXES)
@pytest.mark.parametrize("bucket", ["multitalk-480", "multitalk-720", "multitalk-tiny"])
def test_boxes_go_the_picture_s_way(picture, bucket):
    found, size = masks(picture, bucket=bucket, bbox=BOXES[picture])
    expected = [whole(painted(picture, map(int, box.split(","))), size) for box in BOXES[picture]]
    np.testing.assert_array_equal(found, [*expected, ~(expected[0] | expected[1])])


@pytest.mark.parametrize("picture", BOXES)
def test_without_boxes_two_people_share_the_picture_by_halves(picture):
    height, width = picture
    half = width // 2
    rows = int(0.05 * height), int(0.95 * height)
    halves = [(half * 0.05, half * 0.95), (half * 0.05 + half, half * 0.95 + half)]
    found, size = masks(picture)
    expected = [whole(painted(picture, (rows[0], int(a), rows[1], int(b))), size) for a, b in halves]
    np.testing.assert_array_equal(found[:2], expected)


def test_more_people_share_it_by_strips():
    assert [strip(number, 3, 100, 301) for number in range(3)] == [
        Box(5, 5, 95, 95),
        Box(5, 105, 95, 195),
        Box(5, 205, 95, 295),
    ]
    found, _ = masks((640, 640), people=3)
    assert found.shape == (4, 80, 80) and (found.sum(axis=0) == 1).all()


def test_nearest_reckons_in_float32():
    """In 1% of all sizes exact arithmetic takes another row: such as the one in the middle of 82, made of 2."""
    sizes = [(size, wanted) for size in range(1, 120) for wanted in range(1, 120)]
    differing = [pair for pair in sizes if (nearest(*pair) != np.arange(pair[1]) * pair[0] // pair[1]).any()]
    assert len(differing) == 151 and (2, 82) in differing
    assert nearest(2, 82)[[40, 41, 42]].tolist() == [0, 0, 1]


def test_tokens_are_every_second_latent():
    found, _ = masks((70, 80), bbox=BOXES[70, 80])
    np.testing.assert_array_equal(
        on_tokens(found, PUBLISHED)[0], scaled(found[0], [side // 2 for side in found[0].shape])
    )


def test_published_latents_are_of_8_pixels_and_tokens_of_two():
    assert PUBLISHED == (8, (2, 2)) and PUBLISHED.pixels == (16, 16)


def test_other_models_have_other_latents_and_tokens():
    """The toy's of 16 pixels, which go with its own grid; a person may be on a latent and on no token."""
    toy = FAMILY.configs_from_toml(CONFIGS / "model_toy_multitalk.toml")
    cells = Cells.of(toy.dit, toy.vae)
    assert cells == (16, (2, 2))
    boxes = ["9,0,112,96", "10,96,118,192"]
    found, size = masks((128, 192), bucket="toy-people", bbox=boxes, cells=cells)
    expected = [whole(painted((128, 192), map(int, box.split(","))), size, 16) for box in boxes]
    assert found.shape == (3, 8, 12)
    np.testing.assert_array_equal(found[:2], expected)
    for number, box in enumerate(boxes):  # training tells the same
        entry = PersonEntry("", tuple(map(float, box.split(","))), "")
        there = speaker(entry, 0.0, 1, framing((128, 192), size, "crop"), (1.0, 1.0), 16).place
        np.testing.assert_array_equal(there, found[number])
    assert on_tokens(found, Cells(16, (1, 4))).shape == (3, 8, 3)
    narrow = {"picture": (128, 192), "bucket": "toy-people", "bbox": ["20,16,112,32", boxes[1]]}
    assert masks(**narrow, cells=Cells(16, (2, 1)))[0][0].sum() == 5
    with pytest.raises(UserError, match="person 1 is nowhere"):
        masks(**narrow, cells=cells)


def test_one_person_is_everywhere():
    found, _ = masks((300, 300), people=1, bbox=["0,0,9,9"])
    assert found.shape == (2, 80, 80) and found.all()


@pytest.fixture
def paint(tmp_path):
    def write(name, box, size=(90, 160), grey=255):
        path = tmp_path / name
        Image.fromarray((painted(size, box) * grey).astype(np.uint8)).save(path)
        return str(path)

    return write


def test_mask_pictures_are_as_their_boxes(paint):
    boxes = ["8,10,80,70", "8,90,80,150"]
    drawn = [paint(f"{number}.png", map(int, box.split(","))) for number, box in enumerate(boxes)]
    expected, _ = masks((90, 160), bbox=boxes)
    for bbox, mask in [((), drawn), (["none", boxes[1]], [drawn[0], "none"])]:
        np.testing.assert_array_equal(masks((90, 160), bbox=bbox, mask=mask)[0], expected)


@pytest.mark.parametrize(
    "boxes, message",
    [
        (["0,0,91,50", "0,80,90,160"], "--bbox 0,0,91,50: lies outside the picture, which is 90 high and 160 wide"),
        (["0,0,90,50", "-1,80,90,160"], "--bbox -1,80,90,160: lies outside the picture"),
        (["0,0,90,90", "0,80,90,160"], "--bbox persons 1 and 2 overlap; give places that are apart"),
        (["0,0,90,50", "0,80,1,81"], "--bbox person 2 is nowhere in the video"),
        (["0,0,90,80", "0,80,90,160"], "--bbox people cover all of the picture; leave some of it as background"),
    ],
)
def test_boxes_that_cannot_be_are_told_in_a_line(boxes, message):
    with pytest.raises(UserError) as error:
        masks((90, 160), bbox=boxes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_person_who_is_cut_off_is_told():
    """Of a strip of a picture only the middle is seen."""
    with pytest.raises(UserError, match="--bbox person 1 is nowhere in the video: the place is empty"):
        masks((100, 900), bbox=["0,0,100,40", "0,400,100,500"])


def test_mask_pictures_that_cannot_be_are_told_in_a_line(paint):
    left, right = paint("left.png", (0, 0, 90, 60)), paint("right.png", (0, 90, 90, 150))
    faults = {
        f"--mask {paint('small.png', (0, 90, 40, 80), (45, 80))}: 80x45 pixels, the picture has 160x90": "small.png",
        "--mask person 2 is nowhere in the video": "dark.png",
        "--mask persons 1 and 2 overlap": "left.png",
        "no such file": "none.png",
    }
    paint("dark.png", (0, 90, 90, 150), grey=100)
    for message, name in faults.items():
        with pytest.raises(UserError) as error:
            masks((90, 160), mask=[left, left.replace("left.png", name)])
        assert message in str(error.value)
    assert masks((90, 160), mask=[left, right])[0].shape == (3, 56, 112)
