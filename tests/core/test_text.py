from servesat.core.text import printable


def test_control_characters_are_shown_not_obeyed() -> None:
    assert printable("a\x1b[2Jb\r\x07") == "a\\x1b[2Jb\\r\\x07"
    assert printable("\u202egnp") == "\\u202egnp"  # which would turn the text around
    assert printable("one\ntwo · ≤ 8 µs") == "one\ntwo · ≤ 8 µs"
