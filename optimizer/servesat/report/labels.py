"""Where labels stand beside the points of a chart: on the side with more room, and not on one another."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

CHARACTER_PX, LINE_PX = 6.5, 13.0
"""The size of a character of a label, at 9 points."""

APART_PX = 6.0
"""The distance of a label from its point."""

ROOM_TO_THE_RIGHT = 0.7
"""Part of an axis from where on a label stands to the left of its point, if it can."""


@dataclass(frozen=True)
class Label:
    """A label at a point of the data; it stands above the point and to its right unless it says otherwise."""

    x: float
    y: float
    text: str
    to_the_left: bool = False
    below: bool = False


Box = tuple[float, float, float, float]
"""The ends of a label on a panel [px]: left, bottom, right, top."""


def placed(points: Iterable[tuple[Label, float, float]], width_px: float, height_px: float) -> Iterator[Label]:
    """The labels that have room on a panel of a size, each in the first of four places beside its point.

    Points come with their positions along both axes, from 0 to 1. A label that would lie on one placed before, or out
    of the panel, is left out.
    """
    taken: list[Box] = []
    for label, right, up in points:
        is_far_right = right > ROOM_TO_THE_RIGHT
        for to_the_left, below in product((is_far_right, not is_far_right), (False, True)):
            put = replace(label, to_the_left=to_the_left, below=below)
            box = _box(put, right * width_px, up * height_px)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width_px and box[3] <= height_px
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield put
                break


def _box(label: Label, x_px: float, y_px: float) -> Box:
    width = CHARACTER_PX * len(label.text)
    left = x_px - APART_PX - width if label.to_the_left else x_px + APART_PX
    bottom = y_px - APART_PX - LINE_PX if label.below else y_px + APART_PX
    return left, bottom, left + width, bottom + LINE_PX


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
