import numpy as np
import pytest

from talkverse_jax.toy.turns import draw_turns


@pytest.mark.parametrize("people", [1, 2, 3, 4])
def test_they_speak_by_turns_and_at_once_and_some_listen(people):
    spoken, overlaps, listeners = [], 0, 0
    for number in range(300):
        turns = draw_turns(np.random.default_rng(number), people, 10.0)
        assert len(turns) == people and any(turns)
        listeners += turns.count([])
        ends = [turn for each in turns for turn in each]
        assert all(0 < begin < end <= 10 for begin, end in ends)
        for each in turns:
            assert all(end <= begin for (_, end), (begin, _) in zip(each, each[1:]))
            spoken.append(sum(end - begin for begin, end in each))
        overlaps += any(
            begin < other[1] and other[0] < end
            for place, each in enumerate(turns)
            for begin, end in each
            for later in turns[place + 1 :]
            for other in later
        )
    assert max(spoken) < 7.5  # nobody all the time
    if people > 1:
        assert 0.2 < overlaps / 300 < 0.6
        assert 0.05 < listeners / (300 * people) < 0.2
