"""A stage of the box cascade (Cascade R-CNN, Cai and Vasconcelos 2018): head, loss, refinement."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scnet.config import BoxConfig, BoxStageConfig, ModelConfig
from scnet.model.layers import RoILinear, stack
from scnet.ops import boxes as box_ops
from scnet.runtime.distributed import mean_count
from scnet.types import UNIT, Losses, RoIs, Samples, Targets


class BoxOutput(NamedTuple):
    """What a box stage says of each RoI."""

    logits: Float[Tensor, "R classes"]  # C classes and background
    deltas: Float[Tensor, "R boxes 4"]  # one box for all classes, or one per class
    hidden: Float[Tensor, "R hidden"]  # shared feature, for the feature relay


class BoxStage(nn.Module):
    """Classifies RoIs and moves their boxes."""

    std: Tensor
    unit: Tensor

    def __init__(self, stage: BoxStageConfig, config: ModelConfig) -> None:
        super().__init__()
        self.stage = stage
        self.side = stage.side  # of the RoI feature that it reads
        self.box: BoxConfig = config.box
        self.num_classes = config.num_classes
        hidden, norm = config.box.hidden, config.norms.box
        self.convs = stack(config.channels, config.box.convs, residual=False, norm=norm)
        self.takes_statistics = config.box.convs > 0 and norm in ("batch", "sync")
        self.fc1 = RoILinear(config.channels, stage.side, hidden)
        for number in range(2, config.box.layers + 1):
            self.add_module(f"fc{number}", nn.Linear(hidden, hidden))
        self.cls = nn.Linear(hidden, config.num_classes + 1)
        self.num_boxes = 1 if config.box.class_agnostic else config.num_classes
        self.reg = nn.Linear(hidden, 4 * self.num_boxes)
        std = torch.tensor(stage.delta_std, device="cpu")
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("unit", UNIT.clone(), persistent=False)
        _initialise(self)

    def forward(
        self, features: Float[Tensor, "R D s s"], valid: Bool[Tensor, "R"] | None = None
    ) -> BoxOutput:
        """Return what is said of each RoI; those that are not valid are padding."""
        hidden = self.hidden(features, valid)
        deltas = self.reg(hidden).view(hidden.shape[0], self.num_boxes, 4)
        return BoxOutput(self.cls(hidden), deltas, hidden)

    def hidden(
        self, features: Float[Tensor, "R D s s"], valid: Bool[Tensor, "R"] | None = None
    ) -> Float[Tensor, "R hidden"]:
        """Return the shared feature alone; the feature relay reads it for the final boxes."""
        # Padding has no part in statistics.
        counted = valid if self.training and self.takes_statistics else None
        x: Tensor = self.convs(features if counted is None else features[counted])
        if counted is not None:
            x = x.new_zeros(len(features), *x.shape[1:]).index_put((counted,), x)
        for number in range(1, self.box.layers + 1):
            x = F.relu(self.get_submodule(f"fc{number}")(x))
        return x

    def loss(self, out: BoxOutput, samples: Samples, targets: Targets) -> Losses:
        """Return both losses, divided by the number of sampled RoIs (background too)."""
        number = mean_count(samples.valid.sum())
        labels = samples.labels.masked_fill(~samples.valid, -100)
        cls = F.cross_entropy(out.logits, labels, reduction="sum", ignore_index=-100)
        positive = samples.gt >= 0
        # Background has no box; its rows are masked out.
        own = samples.labels.clamp(max=self.num_boxes - 1)[:, None, None]
        deltas = out.deltas.gather(1, own.expand(-1, 1, 4))[:, 0]
        # Background moves nowhere: some box onto itself.
        boxes = torch.where(positive[:, None], samples.rois.boxes, self.unit)
        goals = targets.boxes.flatten(0, 1)[samples.gt.clamp(min=0)]
        goals = torch.where(positive[:, None], goals, self.unit)
        reg = F.smooth_l1_loss(
            deltas,
            box_ops.encode(boxes, goals, self.std),
            reduction="none",
            beta=self.box.box_loss_beta,
        )
        weight = self.stage.loss_weight / number
        return {"cls": cls * weight, "box": (reg * positive[:, None]).sum() * weight}

    @torch.no_grad()
    def refine(
        self, out: BoxOutput, rois: RoIs, sizes: Int[Tensor, "B 2"], labels: Int[Tensor, "R"] | None
    ) -> RoIs:
        """Move each RoI by the deltas of its label, or, if background, of its likeliest class."""
        likeliest = out.logits[:, :-1].argmax(1)
        if labels is not None:
            likeliest = torch.where(labels == self.num_classes, likeliest, labels)
        own = likeliest.clamp(max=self.num_boxes - 1)[:, None, None]
        deltas = out.deltas.gather(1, own.expand(-1, 1, 4))[:, 0].float()
        boxes = box_ops.decode(rois.boxes, deltas, self.std, sizes[rois.image])
        return RoIs(boxes, rois.image)

    def boxes(
        self, out: BoxOutput, rois: RoIs, sizes: Int[Tensor, "B 2"]
    ) -> Float[Tensor, "R boxes 4"]:
        """Return the boxes that a RoI has for each class, or the one for all."""
        deltas = out.deltas.float()
        boxes = rois.boxes[:, None].expand_as(deltas)
        return box_ops.decode(boxes, deltas, self.std, sizes[rois.image][:, None])


def _initialise(stage: BoxStage) -> None:
    for number in range(1, stage.box.layers + 1):
        fc = cast(nn.Linear, stage.get_submodule(f"fc{number}"))
        nn.init.xavier_uniform_(fc.weight.view(len(fc.weight), -1))
        nn.init.zeros_(fc.bias)
    nn.init.normal_(stage.cls.weight, std=0.01)
    nn.init.normal_(stage.reg.weight, std=0.001)
    nn.init.zeros_(stage.cls.bias)
    nn.init.zeros_(stage.reg.bias)
