"""What a detector computes from an image to masks is one graph, for images of any size.

`test_compiled.py` runs this without the checks of shapes, which PyTorch cannot trace.
"""

from __future__ import annotations

import pytest
import torch
from tests.host_waits import gpu_path
from tests.model_cases import make_detector
from torch import Tensor, nn

from scnet.config import ScoringConfig
from scnet.model.detector import Detector

# With all that its models are set to.
DETECTRON2: dict[str, object] = {
    "model__backbone__name": "resnet50",
    "model__backbone__stride_in": "1x1",
    "model__rpn__anchor_sizes": ((4.0, 6.0), (9.0, 12.0), (17.0, 20.0), (31.0, 40.0), (64.0, 90.0)),
    "model__rpn__convs": 2,
    "model__box__convs": 4,
    "model__box__layers": 1,
    "model__norm": "group",
    "model__box__norm": "batch",
    "model__mask__norm": "batch",
}

TORCHVISION: dict[str, object] = {
    "model__rpn__anchor_grid": "torchvision",
    "model__roi_align": "legacy",
}
# And a head that scores the masks, which adds one more value.
SCORING: dict[str, object] = {"model__mask__scoring": ScoringConfig(hidden=16)}
SETTINGS = {"cascade_mask_rcnn_d2": DETECTRON2, "mask_rcnn": TORCHVISION | SCORING}


class Whole(nn.Module):
    """Boxes, scores, labels and masks of padded images."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        head = self.detector.head
        candidates, features = head.find(self.detector.dense(images, sizes), sizes)
        rois, scores, labels = self.detector.choose(candidates, images.shape[0])
        masks = (x for x in head.masks(features, rois, labels) if x is not None)
        return rois.boxes, scores, labels, *masks


def image(height: int, width: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, height, width, generator=random) * 255, torch.tensor([[height, width]])


# torchvision's shape function of NMS calls an older name of PyTorch's.
@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint:FutureWarning")
@pytest.mark.parametrize("name", ["htc", "scnet", *SETTINGS])
def test_a_graph_of_the_whole_serves_every_size(name: str) -> None:
    changes = SETTINGS.get(name, {})
    detector = make_detector(name, model__box__score_threshold=0.0, **changes)
    whole = Whole(detector.eval().requires_grad_(False))
    sides = {axis + 2: 32 * torch.export.Dim(f"side{axis}", min=2, max=40) for axis in (0, 1)}
    with torch.no_grad(), gpu_path():
        shapes = {"images": sides, "sizes": None}
        graph = torch.export.export(whole, image(96, 128), dynamic_shapes=shapes, strict=False)
        for size in ((96, 128), (128, 224)):
            given = image(*size)
            ours, theirs = graph.module()(*given), whole(*given)
            assert len(theirs[0])
            torch.testing.assert_close(ours, theirs)
