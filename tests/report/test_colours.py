from servesat.catalogue.load import chip_ids
from servesat.report.colours import chip_colour


def test_a_chip_has_a_colour_of_its_own() -> None:
    colours = {chip_colour(chip) for chip in (*chip_ids(), "mine", "yours")}
    assert len(colours) == len(chip_ids()) + 2
    assert all(len(colour) == 7 and colour[0] == "#" for colour in colours)
