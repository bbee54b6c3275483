"""Fair turns."""

from talkverse_jax.serve.jobs.order import Waiting, in_order, joining


def _turns(text: str, served=None, put_back=()) -> str:
    """The owners of jobs that came in this order, in the order of their turns; numbers tell them apart."""
    waiting = [Waiting(f"{owner}{n}", owner, n, n in put_back) for n, owner in enumerate(text)]
    return " ".join(each.id for each in in_order(waiting, served or {}))


def test_one_owner_is_served_in_order():
    assert _turns("aaa") == "a0 a1 a2"


def test_owners_take_turns():
    assert _turns("aaabbc") == "a0 b3 c5 a1 b4 a2"


def test_whoever_was_served_longest_ago_comes_next():
    assert _turns("abc", {"a": 7, "b": 5, "c": 6}) == "b1 c2 a0"
    assert _turns("aab", {"a": 7}) == "b2 a0 a1"


def test_a_job_put_back_comes_first():
    assert _turns("abab", put_back={3}) == "b3 a0 b1 a2"
    assert _turns("abab", put_back={2, 3}) == "a2 b3 a0 b1"


def _joining(text: str, clips: int, deaths=()) -> str | None:
    """Which job joins a pack of shape x; the others' shapes and clips are given."""
    words = text.split()
    waiting = [Waiting(word, "a", n, False, word[0], int(word[1:]), n in deaths) for n, word in enumerate(words)]
    found = joining(waiting, "x", clips)
    return found and found.id


def test_the_first_of_the_shape_joins():
    assert _joining("x9 x1", 2) == "x9"
    assert _joining("y1 y2", 2) is None
    assert joining([Waiting("a", "a", 0)], None, 9) is None


def test_who_overtakes_lets_nobody_wait_longer():
    assert _joining("y1 x3 x2", 2) == "x2"
    assert _joining("y1 x3", 2) is None


def test_a_job_over_which_a_process_died_joins_nobody():
    assert _joining("x1 x2", 2, deaths={0}) == "x2"
    assert _joining("x1 x3", 2, deaths={0}) is None
