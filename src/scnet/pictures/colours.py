"""The colours of all pictures; the hues are those that colour-blind readers tell apart."""

from __future__ import annotations

Colour = tuple[int, int, int]

# Okabe and Ito's hues (Wong 2011).
BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"

GREY = "#777777"  # text beside the matter
FAINT = "#888888"  # lines that guide the eye
RED = "#B00020"  # limits, and the figures that belong to them

# Lightened, for areas that carry dark text.
LIGHT_ORANGE = "#f6c667"
LIGHT_SKY = "#8fc5ea"
LIGHT_GREEN = "#7fd1b9"
LIGHT_YELLOW = "#f4e98c"
LIGHT_BLUE = "#8fa8dc"
LIGHT_VERMILION = "#eaa27c"
LIGHT_PURPLE = "#dfa9c9"
LIGHT_GREY = "#c9c9c9"


def _rgb(hue: str) -> Colour:
    red, green, blue = bytes.fromhex(hue[1:])
    return red, green, blue


# Objects, in this order: the seven hues, then those of Tol's schemes that stay apart from them.
PALETTE: tuple[Colour, ...] = (
    *map(_rgb, (ORANGE, SKY, GREEN, PURPLE, YELLOW, VERMILION, BLUE)),
    (187, 204, 51),
    (170, 68, 153),
    (153, 221, 255),
    (238, 136, 102),
    (136, 34, 85),
)
PAPER: Colour = (255, 255, 255)
INK: Colour = (40, 40, 40)
