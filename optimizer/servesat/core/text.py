"""Text that is safe to show."""


def printable(text: str) -> str:
    r"""Text with everything but printable characters and line ends escaped: `\x1b[2J` is shown, not obeyed."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )
