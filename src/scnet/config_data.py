"""What can be set of the data: images, what is read of annotation files and how, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from scnet.settings import (
    ConfigError,
    Count,
    Finite,
    NotEmpty,
    Positive,
    Range,
    Share,
    check,
)

Coordinates = Literal["pixels", "normalised", "percent", "thousandths", "swapped", "upward"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    path: str = ""  # folder in a usual COCO layout, or an annotation file
    # values that become black and white: "full" = all that a file may hold (0..65535 of 16 bits;
    # floating-point 0..1, or to its maximum), "minmax" of each band of each image, "percentile" =
    # 0.1 and 99.9 of each band of each image, or two numbers
    range: Literal["full", "minmax", "percentile"] | tuple[Finite, Finite] = "full"
    # bands to take, counted from 1, such as [4, 3, 2], pages of a stack being bands; or "all";
    # None = grey and RGB, and other images are refused
    bands: Literal["all"] | Annotated[tuple[Count, ...], NotEmpty()] | None = None
    # shorter side, and the most the longer side may have
    size: tuple[Count, Count] = (800, 1333)
    keep_ratio: bool = True  # off: `size` is height and width, whatever shape an image has
    # in place of fitting images into `size`, each is enlarged by this factor, whatever its size: in
    # images of a microscope or from above, a pixel is as large in all. In training a random window
    # of `size`, height and width, is cut from it
    scale_factor: Positive | None = None
    # shorter sides to choose from at random in training; empty = only `size`
    scales: tuple[Count, ...] = ()
    flip: Share = 0.5  # chance that a training image is mirrored
    vertical_flip: Share = 0.0  # likewise upside down; for cells and aerial images
    # training images are turned by 0, 90, 180 or 270 degrees, each as often; for cells and aerial
    # images
    quarter_turns: bool = False
    # classes that change places in a mirrored image, such as [[left_arm, right_arm]]; "auto" =
    # those whose names differ in the word left or right alone; empty = none
    flip_swaps: Literal["auto"] | tuple[tuple[str, str], ...] = "auto"
    # large-scale jitter: a training image is scaled by a random factor of this range, such as 0.1
    # to 2.0, where 1 is `size` or `scale_factor`. An image that is then larger than `size` is cut
    # to it at random
    jitter: tuple[Positive, Positive] | None = None
    # chance that objects of another image are pasted into a training image
    copy_paste: Share = 0.0
    # largest change of brightness, contrast and saturation in training; 0.4 = times 0.6 to 1.4
    color_jitter: tuple[Share, Share, Share] = (0.0, 0.0, 0.0)
    # "auto" = found beside the images, "none" = instance masks, or a folder of PNG maps
    stuff_maps: str = "auto"
    drop_invalid: bool = False  # leave out broken annotations instead of stopping at them
    # classes to learn, in this order; empty = all of the file. Others are background
    classes: tuple[str, ...] = ()
    # crowd regions (iscrowd 1): "ignore" = neither objects nor background, "objects" = as all
    # others, "auto" = as "ignore", but a class that is mostly crowd stops
    crowd: Literal["auto", "ignore", "objects"] = "auto"
    # What the numbers of annotation files mean where it is not what COCO says:
    # the four of a box: x, y, width, height; left, top, right, bottom; x and y of the centre,
    # width, height; "masks" = they are not read, and each mask gives its box
    boxes: Literal["xywh", "corners", "centres", "masks"] = "xywh"
    # of boxes and polygons: pixels, or parts of the image's sides, as 0..1, 0..100 or 0..1000;
    # "swapped" = y before x, "upward" = y counts from the lower border
    coordinates: Coordinates = "pixels"
    box_coordinates: Coordinates | None = None  # of boxes, where polygons have others
    # run lengths go down the columns, or along the rows; "swapped_size" = down the columns, but
    # their size is given as width, height
    run_lengths: Literal["columns", "rows", "swapped_size"] = "columns"
    # of photographs that EXIF turns, marks lie on the image upright or as it is stored; "auto" = in
    # the space that they fit
    orientation: Literal["auto", "upright", "stored"] = "auto"
    # of images that were resized since: "files" = from the size that the annotation file gives to
    # that of each image file; two numbers = x and y of all marks are multiplied by these, and
    # sizes in the file are the new ones
    scale_marks: Literal["never", "files"] | tuple[Positive, Positive] = "never"
    # a file whose boxes, masks and images contradict each other stops, or is warned of
    contradictions: Literal["stop", "warn"] = "stop"
    keep_empty: bool = True  # train on images without objects too
    # in training, images of a class that is in fewer than this share of all images are seen more
    # often, sqrt(this / its share) times an epoch; 0 = each image once
    repeat_rare: Share = 0.0
    # with `scale_factor`, a training image is seen once an epoch for every window that it holds
    repeat_large: bool = False
    # an image that cannot be used stops the training, or another takes its place and is counted
    unreadable: Literal["stop", "skip"] = "stop"
    # processes that read images; -1 = one for each core, at most 8
    workers: Annotated[int, Range(-1)] = -1

    def __post_init__(self) -> None:
        check(self, "data")
        if self.jitter and self.jitter[0] > self.jitter[1]:
            raise ConfigError(
                f"data.jitter: {self.jitter}; expected a smallest and a largest scale"
            )
        if self.jitter and self.scales:
            raise ConfigError("data.jitter and data.scales both choose the size; set only one")
        if self.scale_factor is not None:
            self._require_windows()
        elif self.repeat_large:
            raise ConfigError(
                "data.repeat_large: goes with data.scale_factor, as images that are fitted into "
                "data.size are seen whole"
            )
        if isinstance(self.flip_swaps, tuple):
            require_pairs(self.flip_swaps)
        if isinstance(self.range, tuple) and not self.range[0] < self.range[1]:
            raise ConfigError(f"data.range: {self.range}; expected a lower and a higher value")
        read_anew = {self.coordinates, self.box_coordinates} - {"pixels", None}
        if isinstance(self.scale_marks, tuple) and read_anew:
            raise ConfigError(
                f"data.scale_marks: multiplies marks in pixels, but they are {read_anew.pop()} "
                "(data.coordinates); set only one"
            )
        if isinstance(self.scale_marks, tuple) and self.run_lengths != "columns":
            raise ConfigError(
                "data.scale_marks: scales run lengths down the columns, but they are "
                f"{self.run_lengths} (data.run_lengths); set only one"
            )
        if isinstance(self.bands, tuple):
            require_colours(self, len(self.bands))

    def _require_windows(self) -> None:
        """Refuse what would fit an image into sides beside a fixed scale."""
        if self.scales:
            raise ConfigError(
                "data.scales: fits images into these sides, but data.scale_factor enlarges all "
                "alike; data.jitter varies that factor"
            )
        if not self.keep_ratio:
            raise ConfigError(
                "data.keep_ratio: off fits images into data.size, but data.scale_factor enlarges "
                "all alike; set only one"
            )


def require_colours(data: DataConfig, bands: int) -> None:
    """Refuse to change the colours of images that are not RGB."""
    if any(data.color_jitter) and bands != 3:
        raise ConfigError(
            f"data.color_jitter: changes the colours of 3 bands, but there are {bands}; "
            "set --data.color-jitter '[0,0,0]'"
        )


def require_pairs(pairs: tuple[tuple[str, str], ...]) -> None:
    """Refuse pairs of classes that say two things of one class."""
    names = [name for pair in pairs for name in pair]
    for left, right in pairs:
        if left == right:
            raise ConfigError(
                f"data.flip_swaps: {left} is paired with itself; leave the pair out, as a class in "
                "no pair stays what it is"
            )
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"data.flip_swaps: {double} is in {names.count(double)} pairs; keep one of them, as a "
            "class changes places with one other"
        )
