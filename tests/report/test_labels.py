from servesat.report.labels import Label, placed


def put(*points: tuple[str, float, float]) -> list[tuple[str, bool, bool]]:
    """The labels placed on a panel of 1,000 by 500 pixels, and whether they are to the left and below."""
    given = [(Label(0.0, 0.0, text), right, up) for text, right, up in points]
    return [(one.text, one.to_the_left, one.below) for one in placed(given, 1000, 500)]


def test_a_label_stands_where_there_is_more_room() -> None:
    assert put(("left", 0.2, 0.5), ("right", 0.8, 0.5)) == [("left", False, False), ("right", True, False)]


def test_labels_of_one_point_go_around_it_and_a_fifth_is_left_out() -> None:
    around = [("a", False, False), ("b", False, True), ("c", True, False), ("d", True, True)]
    assert put(*((name, 0.5, 0.5) for name in "abcde")) == around


def test_labels_may_touch() -> None:
    """Ten characters are 65 px wide, and a line is 13 px high."""
    assert put(("x" * 10, 0.1, 0.5), ("y" * 10, 0.165, 0.5))[1] == ("y" * 10, False, False)
    assert put(("x" * 10, 0.1, 0.5), ("y" * 10, 0.164, 0.5))[1] == ("y" * 10, False, True)
    assert put(("x" * 10, 0.1, 0.5), ("y" * 10, 0.1, 0.526))[1] == ("y" * 10, False, False)


def test_no_label_leaves_the_panel() -> None:
    assert put(("top", 0.5, 0.99)) == [("top", False, True)]
    assert put(("corner", 0.995, 0.99)) == [("corner", True, True)]
    assert put(("x" * 200, 0.5, 0.5)) == []
