"""What can be set of the model: one frozen dataclass for each part of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from scnet.settings import (
    ConfigError,
    Count,
    CountOrNone,
    NotEmpty,
    Positive,
    Range,
    Share,
    Weight,
    check,
)

Deltas = tuple[Positive, Positive, Positive, Positive]
AnchorSides = Annotated[tuple[Positive, ...], NotEmpty()]
# Behind a convolution: none; group norm of 32 groups, the same for any batch; batch norm over the
# maps of each process ("batch") or of all ("sync"), or by the statistics that are stored ("frozen",
# whose scale and shift still learn: for fine-tuning on few images). The last three are one in use.
Norm = Literal["none", "group", "batch", "sync", "frozen"]
# How features of a box are pooled: half-pixel exact with about one sample for each cell; or as in
# torchvision's models, half a cell off, 2 x 2 samples in each bin, boxes at least one cell wide.
Align = Literal["aligned", "legacy"]
# Where anchors lie: on exact strides; or as in torchvision's models, sides rounded to whole pixels,
# and the stride of each level that of its map in the padded batch, rounded down: on P6 less than 64
# where a side is no multiple of 64.
AnchorGrid = Literal["exact", "torchvision"]
LEVELS = 5  # of the feature pyramid, P2 to P6


@dataclass(frozen=True, kw_only=True)
class DeformableConfig:
    """Deformable convolutions for the 3x3 ones of a ResNet's bottlenecks (Dai et al. 2017)."""

    stages: Annotated[tuple[Annotated[int, Range(1, 4)], ...], NotEmpty()] = (2, 3, 4)
    # a weight for each cell beside its offset (Zhu et al. 2019; DCNv2)
    modulated: bool = True
    groups: Count = 1  # of channels, each with offsets of its own

    def __post_init__(self) -> None:
        check(self, "model.backbone.deformable")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    # any timm model that offers features_only; after the dot, which of its weights: torchvision's
    # are those of the published models
    name: str = "resnet50.tv_in1k"
    # "imagenet" (timm's own), a file, or "none" to start from random numbers
    weights: str = "imagenet"
    # stem and this many stages keep their weights and statistics; 0 = train all
    frozen_stages: Annotated[int, Range(0, 4)] = 1
    # batch norm uses its stored statistics; its scale and shift still learn
    frozen_norm: bool = True
    # with frozen_norm off: statistics are taken over the images of all processes
    sync_norm: bool = False
    # bands of the images; taken from the data when training. The first convolution of ImageNet
    # weights, made for 3, is repeated over others
    bands: Count = 3
    # which convolution of a bottleneck halves the map: the 3x3 in torchvision's weights; the 1x1
    # before it in those of the first ResNets (MSRA, Caffe) and in most models of detectron2
    stride_in: Literal["3x3", "1x1"] = "3x3"
    # None = plain convolutions
    deformable: DeformableConfig | None = None
    # channels of a ResNet's stages; None = the model's own
    widths: Annotated[tuple[Count, ...], NotEmpty()] | None = None
    # of the images, scaled to 0..1, for 3 bands (repeated over others) or for each; None = as the
    # network was trained on ImageNet
    mean: Annotated[tuple[Share, ...], NotEmpty()] | None = None
    std: Annotated[tuple[Positive, ...], NotEmpty()] | None = None

    def __post_init__(self) -> None:
        check(self, "model.backbone")
        if self.sync_norm and self.frozen_norm:
            raise ConfigError(
                "model.backbone.sync_norm: a frozen norm takes no statistics; set frozen_norm off"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (3, self.bands):
                raise ConfigError(
                    f"model.backbone.{name}: {len(values)} values; expected 3, or one for each of "
                    f"{self.bands} bands"
                )


@dataclass(frozen=True, kw_only=True)
class FPNConfig:
    """Feature pyramid network (Lin et al. 2017)."""

    kind: Literal["fpn"] = "fpn"
    norm: Norm | None = None  # behind each of its convolutions; None = model.norm


@dataclass(frozen=True, kw_only=True)
class PAFPNConfig:
    """FPN and a path from its finest level up again, as MMDetection has it (not PANet's own)."""

    kind: Literal["pafpn"] = "pafpn"
    norm: Norm | None = None  # behind each of its convolutions; None = model.norm
    relu: bool = False  # behind every convolution of the pyramid


@dataclass(frozen=True, kw_only=True)
class RPNConfig:
    # side of a square anchor in strides: 8 gives 32 to 512 px on P2..P6
    anchor_scale: Positive = 8.0
    # further sizes on each level, as multiples: 1, 1.26, 1.59 are three to an octave (RetinaNet)
    anchor_multiples: Annotated[tuple[Positive, ...], NotEmpty()] = (1.0,)
    # or all sizes in pixels, as many on each level from P2 to P6
    anchor_sizes: Annotated[tuple[AnchorSides, ...], NotEmpty()] | None = None
    anchor_grid: AnchorGrid = "exact"
    # height / width
    anchor_ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (0.5, 1.0, 2.0)
    convs: Count = 1  # 3x3 convolutions, each with ReLU, before the two last layers
    positive_iou: Share = 0.7
    negative_iou: Share = 0.3
    # anchors per image in the loss, half of them positive where there are enough
    samples: Count = 256
    border: bool = False  # train on anchors across the image border (Mask R-CNN's release: yes)
    # smooth L1 turns linear here; 0 = plain L1 (Mask R-CNN's release)
    box_loss_beta: Weight = 1 / 9
    nms_iou: Share = 0.7
    before_nms: Count = 1000  # proposals per level; 2000 in training
    before_nms_train: Count = 2000
    after_nms: Count = 1000  # proposals per image
    after_nms_train: Count = 2000

    def __post_init__(self) -> None:
        check(self, "model.rpn")
        numbers = [len(sides) for sides in self.anchor_sizes or ()]
        if numbers and (len(numbers) != LEVELS or len(set(numbers)) > 1):
            raise ConfigError(
                f"model.rpn.anchor_sizes: {len(numbers)} levels with {numbers} sizes; expected "
                f"{LEVELS} levels (P2 to P6) with as many sizes on each"
            )

    @property
    def anchors(self) -> int:
        """Number of anchors at each place."""
        sizes = self.anchor_sizes[0] if self.anchor_sizes else self.anchor_multiples
        return len(sizes) * len(self.anchor_ratios)


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """Semantic branch (HTC, SCNet), learning from stuff maps if given, else from instance masks."""

    num_classes: Count | None = None  # None = things and background, learnt from the instance masks
    residual: bool = False  # two residual blocks (SCNet) instead of four convolutions (HTC)
    loss_weight: Weight = 0.2

    def __post_init__(self) -> None:
        check(self, "model.semantic")


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """Global-context branch of SCNet: which classes are in the image."""

    loss_weight: Weight = 3.0  # lambda of the paper; Table 5 varies it

    def __post_init__(self) -> None:
        check(self, "model.context")


@dataclass(frozen=True, kw_only=True)
class BoxStageConfig:
    # fully connected layers over the RoI feature, of which model.box says how many
    kind: Literal["two_fc"] = "two_fc"
    iou: Share = 0.5  # a box is foreground from this overlap on
    delta_std: Deltas = (0.1, 0.1, 0.2, 0.2)  # scale of dx dy dw dh (Cascade R-CNN, table 1)
    side: Count = 7  # of the RoI feature that the stage reads
    loss_weight: Weight = 1.0

    def __post_init__(self) -> None:
        check(self, "model.box.stages")


@dataclass(frozen=True, kw_only=True)
class SoftNMSConfig:
    """Overlapping boxes lose score instead of going (Bodla et al. 2017)."""

    # "linear": times 1 - IoU from model.box.nms_iou on; "gaussian": times exp(-IoU^2 / sigma)
    method: Literal["linear", "gaussian"] = "linear"
    sigma: Positive = 0.5
    min_score: Share = 0.001  # a box goes when its score falls below

    def __post_init__(self) -> None:
        check(self, "model.box.soft_nms")


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    stages: Annotated[tuple[BoxStageConfig, ...], NotEmpty()] = (
        BoxStageConfig(),
        BoxStageConfig(iou=0.6, delta_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),
        BoxStageConfig(iou=0.7, delta_std=(0.033, 0.033, 0.067, 0.067), loss_weight=0.25),
    )
    # of each stage, before its fully connected layers: 3x3 convolutions, each with ReLU
    convs: CountOrNone = 0
    layers: Count = 2  # fully connected layers of each stage; 4 convs and 1 layer are "4conv1fc"
    norm: Norm | None = None  # behind each of the convolutions; None = model.norm
    hidden: Count = 1024  # width of the fully connected layers
    # one box for all classes (cascades) instead of one per class (Mask R-CNN)
    class_agnostic: bool = True
    # each object takes its best box even where that box overlaps another object more
    low_quality: bool = True
    box_loss_beta: Weight = 1.0  # smooth L1 turns linear here; 0 = plain L1 (Mask R-CNN's release)
    # several stages' class scores are averaged before the softmax (MMDetection) or after it
    # (detectron2)
    average: Literal["logits", "probabilities"] = "logits"
    samples: Count = 512  # RoIs per image and stage
    positive_fraction: Share = 0.25
    # lowest score of a detection; the release has 0.05 for Mask and Cascade R-CNN
    score_threshold: Share = 0.001
    nms_iou: Share = 0.5
    nms_across_classes: bool = False  # a box suppresses those of other classes too
    soft_nms: SoftNMSConfig | None = None  # None = a box that overlaps a better one goes
    max_detections: Count = 100  # per image; reaches the evaluator too

    def __post_init__(self) -> None:
        check(self, "model.box")


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Mask scoring (Huang et al. 2019): a head that tells how well each mask fits its object."""

    convs: Count = 4  # 3x3 convolutions, the last of which halves the map; without norm
    layers: Count = 2  # fully connected layers behind them
    hidden: Count = 1024  # width of the fully connected layers
    loss_weight: Weight = 0.5

    def __post_init__(self) -> None:
        check(self, "model.mask.scoring")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    # one mask branch for each entry, fed by that box stage (0 = first)
    fed_by: Annotated[tuple[CountOrNone, ...], NotEmpty()] = (2,)
    # boxes that enter the stage, or leave it (HTC)
    trained_on: Literal["entering", "leaving"] = "entering"
    convs: CountOrNone = 12
    residual: bool = True  # a skip over every two convolutions
    norm: Norm | None = None  # behind each of the convolutions; None = model.norm
    flow: bool = False  # each branch receives the features of the one before (HTC)
    relay: bool = False  # box features join the mask features (SCNet, sec. 4.2)
    loss_weights: tuple[Weight, ...] = (1.75,)  # one for each branch
    size: Count = 28  # side of the predicted mask
    scoring: ScoringConfig | None = None  # None = a mask has the score of its box
    # an object goes if masks of higher scores, of any class, leave less than this share of its own
    # free, as for cells and other things that do not overlap; 0 = none goes
    least_visible: Share = 0.0

    def __post_init__(self) -> None:
        check(self, "model.mask")
        if len(self.fed_by) != len(self.loss_weights):
            raise ConfigError(
                f"model.mask: {len(self.fed_by)} branches (fed_by) but {len(self.loss_weights)} "
                "loss_weights; give one weight for each branch"
            )
        if self.residual and self.convs % 2:
            raise ConfigError(
                f"model.mask.convs: {self.convs} is odd, but a skip spans two; use an even number"
            )
        if self.size % 4:
            raise ConfigError(f"model.mask.size: {self.size} is not a multiple of 4")


class Norms(NamedTuple):
    """The norm of each part that may have one of its own."""

    pyramid: Norm
    box: Norm
    mask: Norm


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    num_classes: Count = 80  # without background; taken from the data when training
    backbone: BackboneConfig = BackboneConfig()
    pyramid: FPNConfig | PAFPNConfig = FPNConfig()
    channels: Count = 256  # of the feature pyramid and of every head
    # behind the convolutions of the pyramid and the 3x3 ones of boxes, masks, semantic branch and
    # context, where the part has none of its own
    norm: Norm = "none"
    roi_align: Align = "aligned"
    rpn: RPNConfig = RPNConfig()
    semantic: SemanticConfig | None = None
    context: ContextConfig | None = None
    box: BoxConfig = BoxConfig()
    mask: MaskConfig = MaskConfig()

    def __post_init__(self) -> None:
        check(self, "model")
        stages = len(self.box.stages)
        if any(not 0 <= stage < stages for stage in self.mask.fed_by):
            raise ConfigError(
                f"model.mask.fed_by: {self.mask.fed_by} names a box stage that is not there; "
                f"stages are 0..{stages - 1}"
            )
        relayed = self.mask.relay and self.mask.trained_on == "leaving"
        if relayed and self.box.convs and self.norms.box in ("batch", "sync"):
            raise ConfigError(
                f"model.box.norm: {self.norms.box} would take its statistics twice, over all boxes "
                "and over those of objects alone, with model.mask.relay and model.mask.trained_on "
                "leaving; take frozen, which keeps the weights of a trained detector, or group"
            )
        sides = (stage.side for stage in self.box.stages)
        if self.semantic and any(self.mask.size // 2 % side for side in sides):
            raise ConfigError(
                f"model.mask.size: {self.mask.size}; with a semantic branch it must be a multiple "
                "of 28, as half of it is averaged to the 7 x 7 cells of boxes; or set "
                "model.semantic off"
            )

    @property
    def norms(self) -> Norms:
        """The norms of pyramid, box heads and mask branches."""
        own = (self.pyramid.norm, self.box.norm, self.mask.norm)
        return Norms(*(norm or self.norm for norm in own))

    @property
    def semantic_classes(self) -> int:
        """Number of semantic classes: the things and one background, unless stuff maps say more."""
        given = self.semantic.num_classes if self.semantic else None
        return self.num_classes + 1 if given is None else given
