import gc
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import masks as roi
from talkverse_jax.data.metadata import Row
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.fit import cover
from tests.videos import face_box, write_masks


def drawn_by_pillow(box, size):
    """The mask at full size, one pixel a cell kept."""
    mask = Image.new("L", size[::-1])
    if np.isfinite(box).all():
        ImageDraw.Draw(mask).rectangle([tuple(box[:2]), tuple(box[2:])], fill=1)
    return np.asarray(mask)[::16, ::16]


def test_masks_are_those_pillow_draws():
    rng, size = np.random.default_rng(0), (128, 160)
    low = rng.uniform(0, 110, (300, 2))
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(1, 90, (300, 2)), [159, 127])], axis=1)
    boxes[::2] = boxes[::2].round() // 16 * 16  # corners on the cells' pixels
    boxes[7] = np.nan
    masks = roi.latent_masks(boxes, size, 16)
    assert masks.shape == (300, 8, 10)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks, [drawn_by_pillow(box, size) for box in boxes])
    assert masks[7].sum() == 0 < masks.sum()


def test_the_box_follows_the_picture():
    """A white box in a picture, and its coordinates: both scaled and cropped."""
    for height, width, target in [(96, 160, (128, 128)), (200, 100, (128, 160)), (127, 131, (128, 128))]:
        picture = np.zeros((height, width, 3), np.uint8)
        left, top, right, bottom = 0.35 * width, 0.4 * height, 0.6 * width, 0.7 * height
        picture[round(top) : round(bottom), round(left) : round(right)] = 255
        [box] = roi.scaled(np.array([[left, top, right, bottom]]), height, width, target)
        rows, columns = np.nonzero(cover(picture, target)[..., 0] > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        scale = max(target[0] / height, target[1] / width)
        np.testing.assert_allclose(box, np.minimum(seen, [target[1] - 1, target[0] - 1] * 2), atol=0.5 * scale + 1)


def test_boxes_at_the_edge():
    boxes = np.array(
        [
            [-50, -50, 500, 500],  # larger than the picture
            [300, 20, 400, 40],  # beside it
            [50, 20, 40, 60],  # turned round
            [np.nan, 0, 10, 10],
        ]
    )
    scaled = roi.scaled(boxes, 128, 128, (128, 128))
    np.testing.assert_array_equal(scaled[0], [0, 0, 127, 127])
    np.testing.assert_array_equal(scaled[1], [127, 20, 127, 40])
    assert np.isnan(scaled[2:]).all()


def test_points_that_do_not_count():
    keypoints = np.zeros((3, 1, 133, 3), np.float32)
    keypoints[:, 0, :, 2] = 1  # all at (0, 0)
    keypoints[0, 0, 23, :2] = 10, 20
    keypoints[0, 0, 90, :2] = 50, 40
    keypoints[0, 0, 22, :2] = keypoints[0, 0, 91, :2] = 99, 99  # no face points
    keypoints[0, 0, 30] = 1, 1, 0  # no confidence
    keypoints[0, 0, 31] = 99, np.nan, 1
    keypoints[0, 0, 32] = 99, 99, np.nan
    keypoints[2, 0, 40] = 0, 30, 1  # on the edge, not at (0, 0)
    keypoints[2, 0, 41] = 9, 0, 1
    faces = roi.face_boxes(keypoints)[:, 0]
    np.testing.assert_array_equal(faces[0], [10, 20, 50, 40])
    assert np.isnan(faces[1]).all()
    np.testing.assert_array_equal(faces[2], [0, 0, 9, 30])


def test_the_timeline_is_scaled():
    boxes = np.arange(11.0)[:, None] * np.ones(4)
    assert roi.at_frames(boxes, [0, 1, 2, 3, 20], 21)[:, 0].tolist() == [0, 0, 1, 2, 10]  # 0.5 and 1.5 to even
    assert roi.at_frames(boxes, [0, 5], 6)[:, 0].tolist() == [0, 10]
    assert roi.at_frames(boxes[:1], [0, 5], 6)[:, 0].tolist() == [0, 0]


def test_a_latent_frame_takes_its_first_frame():
    assert roi.target_frames(120, 30).tolist() == list(range(0, 120, 4))


def test_a_keypoint_file(tmp_path):
    path = write_masks(tmp_path / "a.npz", 5, (128, 128))
    faces, bodies = roi.read_boxes(str(path))
    np.testing.assert_allclose(faces[:, 0], [face_box(number, (128, 128)) for number in range(5)], atol=0.5)
    assert bodies.shape == (5, 1, 4)
    arrays = dict(np.load(path))
    two = {"person_bbox_xyxy": np.stack([arrays["person_bbox_xyxy"]] * 2, 1)}
    np.savez(path, **arrays | two)
    np.testing.assert_array_equal(roi.read_boxes(str(path))[1], bodies)  # the first of two persons
    other = arrays["keypoints_info"] + [7, 0, 0]
    np.savez(path, **two, keypoints_info=np.concatenate([arrays["keypoints_info"], other], axis=1))
    both = roi.read_boxes(str(path))
    np.testing.assert_array_equal(both[0][:, 1], faces[:, 0] + [7, 0, 7, 0])
    assert both[1].shape == (5, 2, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {"keypoints_info": arrays["keypoints_info"]},
        lambda arrays: arrays | {"keypoints_info": arrays["keypoints_info"][:, :, :17]},
        lambda arrays: arrays | {"person_bbox_xyxy": np.zeros((0, 4))},
        lambda arrays: arrays | {"keypoints_info": np.repeat(arrays["keypoints_info"], 2, 1)},  # whose body is where?
        None,
    ],
)
def test_damaged_keypoint_files(tmp_path, change):
    path = write_masks(tmp_path / "a.npz", 5, (128, 128))
    if change:
        np.savez(path, **change(dict(np.load(path))))
    else:
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadSample, match="mask file damaged"):
        roi.read_boxes(str(path))
    with pytest.raises(BadSample, match="no mask file"):
        roi.read_boxes(str(tmp_path / "none.npz"))


@pytest.mark.parametrize(
    ("file", "roi_dir", "roi_path"),
    [
        ("data/videos/a.npz", "", ""),
        ("data/videos/a.mp4.npz", "", ""),
        ("data/dwpose/a.npz", "", ""),
        ("masks/videos/a.npz", "masks", ""),
        ("masks/videos/a.mp4.npz", "masks", ""),
        ("elsewhere/b.npz", "", "elsewhere/b.npz"),
    ],
)
def test_where_a_keypoint_file_may_be(tmp_path, file, roi_dir, roi_path):
    row = Row(
        where="",
        video_path="videos/a.mp4",
        video=f"{tmp_path}/data/videos/a.mp4",
        caption="",
        roi_path=roi_path and f"{tmp_path}/{roi_path}",
    )
    arguments = (row, f"{tmp_path}/data", roi_dir and f"{tmp_path}/{roi_dir}")
    assert roi.find(*arguments) == ""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert roi.find(*arguments) == f"{tmp_path}/{file}"


def test_a_detector_that_is_not_there():
    for name in ("no_such_module:f", "json:no_such_function", "json"):
        with pytest.raises(UserError, match=name):
            roi.load_detector(name)


def test_several_threads_read_at_once(tmp_path):
    """Now and then a file was told damaged, and its sample left out: where Python collected garbage in between,
    which here it does at every turn."""
    path = tmp_path / "a.npz"
    np.savez(path, keypoints_info=np.ones((2, 1, 133, 3)), person_bbox_xyxy=np.ones((2, 4)))
    before, let_others = gc.get_threshold(), lambda *_: time.sleep(0)
    gc.callbacks.append(let_others)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(lambda _: roi.read_boxes(str(path)), range(400)))) == 400
    finally:
        gc.callbacks.remove(let_others)
        gc.set_threshold(*before)
