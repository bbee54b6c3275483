import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import exists
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.metadata import longest_scene, read_metadata
from tests.videos import write_csv


def test_rows_of_several_files(tmp_path):
    one = write_csv(tmp_path / "a.csv", [{"video_path": "x/a.b.mp4", "caption": 'says "yes",\nthen no', "fps": 30}])
    two = write_csv(
        tmp_path / "b.csv",
        [
            {"video_path": "/abs/c.mp4", "caption": "c", "FPS": "25.0", "scenes": "0,9", "score": 1},
            {"video_path": "gs://bucket/d.mp4", "caption": "d", "FPS": "", "scenes": "", "score": 2},
        ],
    )
    a, c, d = read_metadata([str(one), str(two)], "/data")
    assert (a.video, a.name, a.fps, a.scenes) == ("/data/x/a.b.mp4", "a", 30.0, "")
    assert a.caption == 'says "yes",\nthen no'
    assert (c.video, c.name, c.fps, c.scenes) == ("/abs/c.mp4", "c", 25.0, "0,9")
    assert (d.video, d.name, d.fps) == ("gs://bucket/d.mp4", "d", 0.0)


def test_paths_below_a_bucket(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"video_path": "x/a.mp4", "caption": "a", "roi_path": "m/a.npz"}])
    [row] = read_metadata([str(path)], "gs://bucket/data/")
    assert (row.video, row.roi_path) == ("gs://bucket/data/x/a.mp4", "gs://bucket/data/m/a.npz")


def test_a_huge_field_and_a_byte_order_mark(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffvideo_path,caption\na.mp4," + "x" * 300_000 + "\n")
    [row] = read_metadata([str(tmp_path / "a.csv")])
    assert len(row.caption) == 300_000


def test_a_row_without_a_path_is_kept_for_the_count(tmp_path):
    (tmp_path / "a.csv").write_text("caption,video_path\nonly a caption,\nboth,b.mp4\n")
    first, second = read_metadata([str(tmp_path / "a.csv")], "/data")
    assert first.video_path == ""
    assert first.where.endswith("a.csv line 2")
    assert second.video == "/data/b.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption\na,b\n", "has no column video_path; it has video, caption"),
        ("video_path\na\n", "has no column caption"),
        ("video_path,caption,scenes\na,b,c\n", "has no column fps"),
        ("", "has no column video_path; it has none"),
        ("video_path,caption\n", "no rows"),
    ],
)
def test_what_is_missing_is_named(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_metadata([str(path)])


def test_files_that_are_no_csv(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_metadata([str(tmp_path / "none.csv")])
    (tmp_path / "latin.csv").write_bytes(b"video_path,caption\na.mp4,caf\xe9\n")
    with pytest.raises(UserError, match="latin.csv line 2: byte 0xe9 is not UTF-8; save it .*CSV UTF-8"):
        read_metadata([str(tmp_path / "latin.csv")])


def test_a_caption_with_commas_and_no_quotes_is_not_cut(tmp_path):
    (tmp_path / "a.csv").write_text("video_path,caption\na.mp4,A woman, who smiles, talks.\n")
    with pytest.raises(UserError, match="a.csv line 2: 4 cells in 2 columns; put a caption in straight quotes"):
        read_metadata([str(tmp_path / "a.csv")])


def test_a_table_of_a_european_spreadsheet_of_windows(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "Zoë.mp4").touch()
    text = (
        'video_path ;caption; fps;scenes\r\nvideos\\Zoe\u0308.mp4;"Zoë; she talks, smiling.";29,97;"0,210;211,480"\r\n'
    )
    (tmp_path / "a.csv").write_text(text, encoding="utf-16", newline="")
    told = Told()
    [row] = read_metadata([str(tmp_path / "a.csv")], str(tmp_path), told)
    assert (row.caption, row.fps, row.scenes) == ("Zoë; she talks, smiling.", 29.97, "0,210;211,480")
    assert row.name == "Zoe\u0308" and exists(row.video) and row.video == f"{tmp_path}/videos/Zoe\u0308.mp4"
    assert told.said == [f"{tmp_path}/a.csv: its cells are separated by semicolons"]


class Told(Reporter):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    ("text", "fps", "scene"),
    [
        ("", 30, (0, 199)),
        ("0,99", 25, (0, 99)),
        ("0,239", 30, (0, 199)),
        ("30,149", 30, (25, 124)),  # a single scene is not trimmed
        ("0,59;60,179;180,239", 30, (53, 145)),  # 64..175 of 30 fps: floor(53.3), floor(146.7) - 1
        ("0,99;100,199", 25, (0, 95)),  # the first of two as long
        ("100,199 ; 0,49", 25, (100, 195)),
        ("0,3;4,199", 25, (8, 199)),  # nothing is left of the first
        ("0,49;50,5000", 25, (54, 199)),  # clamped to the video
        ("0,49;70;80,199", 25, (84, 199)),  # a part that is no pair
        ("9,5;0,99", 25, (0, 99)),
        ("0,a;50,99", 25, (0, 199)),  # no numbers: no scenes
        ("0.5,99", 25, (0, 199)),
        ("nan", 25, (0, 199)),
        ("0,99", 0, (0, 199)),  # unknown rate
        ("0,1;2,3", 25, (0, 199)),  # trimmed to nothing
        ("50," + "9" * 400, 25, (50, 199)),
        ("50,99", 1e-320, (199, 199)),
        ("-" + "9" * 400 + ",99", 25, (0, 99)),
    ],
)
def test_the_longest_scene(text, fps, scene):
    assert longest_scene(text, fps, 200) == scene
