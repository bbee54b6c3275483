"""Who speaks when, where several people are in one picture: by turns, now and then at once, and some only listen."""

import numpy as np

from talkverse_jax.toy.speech import Turn

_AT_ONCE = 0.35  # of the videos: nobody waits for the others
_LISTENS = 0.12  # of the people, but never all of a video


def draw_turns(rng: np.random.Generator, people: int, seconds: float) -> list[list[Turn]]:
    """The turns of each person, in order; none of one who only listens. Nobody speaks from the first to the last
    moment of a video of some seconds."""
    speakers = [person for person in range(people) if rng.uniform() >= _LISTENS] or [int(rng.integers(people))]
    turns: list[list[Turn]] = [[] for _ in range(people)]
    if len(speakers) == 1 or rng.uniform() < _AT_ONCE:
        for person in speakers:
            turns[person] = _alone(rng, seconds)
    else:
        _in_turn(rng, turns, speakers, seconds)
    return turns


def _alone(rng: np.random.Generator, seconds: float) -> list[Turn]:
    """Of somebody who minds nobody else."""
    turns, at = [], float(rng.uniform(0.1, 1.5))
    while at < seconds - 0.5:
        end = at + float(rng.uniform(0.8, 3.0))
        turns.append((at, min(end, seconds)))
        at = end + float(rng.uniform(1.5, 3.5))  # of which the last phrase takes some
    return turns


def _in_turn(rng: np.random.Generator, turns: list[list[Turn]], speakers: list[int], seconds: float) -> None:
    """One after the other; who has said least is next, and may begin before the one before has ended."""
    at, before = float(rng.uniform(0.1, 0.5)), None
    while at < seconds - 0.5:
        others = [person for person in speakers if person != before]
        least = min(len(turns[person]) for person in others)
        person = int(rng.choice([person for person in others if len(turns[person]) == least]))
        end = at + float(rng.uniform(0.3, 2.0))
        turns[person].append((at, min(end, seconds)))
        at, before = end + float(rng.uniform(0.1, 1.8)), person
