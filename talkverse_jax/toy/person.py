"""Who is seen: a person of the toy world, drawn by lot, and the caption that says so."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

SKINS: tuple[Colour, ...] = (
    (250, 219, 196),
    (240, 200, 168),
    (228, 180, 146),
    (206, 154, 116),
    (178, 124, 88),
    (146, 98, 70),
    (118, 78, 58),
)
HAIR: dict[str, Colour] = {
    "black": (40, 36, 42),
    "brown": (104, 68, 44),
    "blond": (226, 186, 104),
    "red": (176, 80, 40),
    "grey": (168, 168, 172),
}
STYLES = ("short", "parted", "curly", "long", "bobbed", "tied-up")
EYES: dict[str, Colour] = {"brown": (98, 62, 38), "blue": (70, 120, 172), "green": (84, 130, 84)}
CLOTHES: dict[str, Colour] = {
    "red": (178, 62, 62),
    "blue": (58, 92, 156),
    "green": (66, 122, 88),
    "yellow": (222, 176, 70),
    "white": (232, 232, 228),
    "dark": (58, 60, 70),
    "purple": (122, 84, 148),
}
COLLARS = {"jumper": "round", "shirt": "open", "hoodie": "hood"}
WALLS: dict[str, Colour] = {
    "light blue": (188, 212, 228),
    "cream": (240, 228, 204),
    "mint": (194, 222, 204),
    "pink": (238, 206, 206),
    "grey": (196, 200, 204),
    "lavender": (210, 202, 228),
    "teal": (96, 148, 152),
}
PATTERNS = ("plain", "striped", "dotted", "windowed")
_PATTERN_WORDS = {
    "plain": "a {} wall",
    "striped": "a striped {} wall",
    "dotted": "a {} wall with dots",
    "windowed": "a {} wall with a window",
}
_COUNTED = {2: "Two", 3: "Three", 4: "Four"}


@dataclass(frozen=True)
class Person:
    """A person and the room; lengths in 128ths of the picture's short side.

    Attributes:
      face: half the width of the face at the cheeks.
      jaw: half the width at the jaw, as a share of `face`.
      chin: where the face ends.
      mouth: width at rest.
      widest: opening of the mouth at an opening of 1.
      lips: how full, 1 on average.
      eye: half the width of an eye.
      apart: from the middle of the face to an eye.
      nose: half its width.
      brow: thickness.
      smile_from: seconds at which a smile begins; None for a face that stays serious.
    """

    face: float
    jaw: float
    chin: float
    mouth: float
    widest: float
    lips: float
    eye: float
    apart: float
    nose: float
    brow: float
    skin: Colour
    hair: str
    style: str
    eyes: str
    glasses: str
    clothes: str
    garment: str
    wall: str
    pattern: str
    smile_from: float | None


def draw_person(rng: np.random.Generator) -> Person:
    """Somebody new."""
    uniform = lambda low, high: float(rng.uniform(low, high))  # noqa: E731
    pick = lambda names: list(names)[int(rng.integers(len(names)))]  # noqa: E731
    smiles, from_start = rng.uniform() < 0.5, rng.uniform() < 0.3
    return Person(
        face=uniform(33, 38.5),
        jaw=uniform(0.74, 0.93),
        chin=uniform(106.5, 112),
        mouth=uniform(27, 33),
        widest=uniform(11.5, 14),
        lips=uniform(0.8, 1.25),
        eye=uniform(6.4, 8.0),
        apart=uniform(15, 17.5),
        nose=uniform(4.2, 6.8),
        brow=uniform(1.6, 3.2),
        skin=pick(SKINS),
        hair=pick(HAIR),
        style=pick(STYLES),
        eyes=pick(EYES),
        glasses=pick(("none", "none", "round", "square")),
        clothes=pick(CLOTHES),
        garment=pick(COLLARS),
        wall=pick(WALLS),
        pattern=pick(PATTERNS),
        smile_from=(0.0 if from_start else uniform(0.3, 1.5)) if smiles else None,
    )


def caption(person: Person) -> str:
    """What is seen, in a sentence or two; it ends with the expression."""
    return f"{_seen(person, 'A')}, talks to the camera in front of {_wall(person)}. The person {_expression(person)}."


def group_caption(people: Sequence[Person]) -> str:
    """What is seen of people in one room, from left to right."""
    if len(people) == 1:
        return caption(people[0])
    each = "; ".join(f"{_seen(person, 'a')}, who {_expression(person)}" for person in people)
    return f"{_COUNTED[len(people)]} people talk in front of {_wall(people[0])}. From left to right: {each}."


def _seen(person: Person, article: str) -> str:
    glasses = "" if person.glasses == "none" else f" and {person.glasses} glasses"
    return f"{article} person with {person.style} {person.hair} hair{glasses}, in a {person.clothes} {person.garment}"


def _wall(person: Person) -> str:
    return _PATTERN_WORDS[person.pattern].format(person.wall)


def _expression(person: Person) -> str:
    return "looks serious" if person.smile_from is None else "smiles"
