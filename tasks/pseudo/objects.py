"""Objects of a frame: found by torchvision's Mask R-CNN, or read from a file of boxes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from tasks.core.data.boxes import BoxFile
from tasks.core.errors import InputError, UsageError
from tasks.core.video.reader import VideoError
from tasks.pseudo.masks import fill_box

_HUB_FILES = ("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")
"""torchvision's names of its two sets of COCO weights, the better one first."""
_ONLY_IN_V2 = "backbone.fpn.inner_blocks.0.1.weight"


class Segmenter:
    """Mask R-CNN on COCO: the thesis has LaMa's detectron2 panoptic model, of which this is the light substitute.

    Args:
        weights: a `.pth` or `.safetensors` file with the state of torchvision's `maskrcnn_resnet50_fpn` or `_v2`; None: what torch hub's
            cache holds. Nothing is downloaded.
        min_score: least confidence.
        max_area: larger objects are passed over, share of the frame.
        side_px: short side at which the network works.

    Raises:
        UsageError: there are no weights, or they do not fit.
    """

    def __init__(self, weights: str | None, min_score: float, max_area: float, device: torch.device, side_px: int = 800):
        from torchvision.models import detection

        self.file = Path(weights) if weights else cached_weights()
        self.min_score, self.max_area, self.device = min_score, max_area, device
        state = read_state(self.file)
        build = detection.maskrcnn_resnet50_fpn_v2 if _ONLY_IN_V2 in state else detection.maskrcnn_resnet50_fpn
        self.model = build(weights=None, weights_backbone=None, min_size=side_px, box_score_thresh=min_score)
        try:
            self.model.load_state_dict(state)
        except RuntimeError:
            raise UsageError(f"{self.file} does not hold the weights of torchvision's Mask R-CNN with 91 COCO classes", HOW) from None
        self.model.to(device).eval()

    @torch.no_grad()
    def find(self, frames: np.ndarray) -> list[list[np.ndarray]]:
        """The objects of frames `(N, H, W, 3)` uint8 RGB: per frame a list of `(H, W)` bool masks, most confident first."""
        pictures = [frame.permute(2, 0, 1).float().div(255).to(self.device) for frame in torch.from_numpy(frames)]
        return [self.usable(found) for found in self.model(pictures)]

    def usable(self, found: dict[str, torch.Tensor]) -> list[np.ndarray]:
        """Masks of torchvision's `scores` (n,) and `masks` (n, 1, H, W) in [0, 1] that are sure and small enough."""
        masks = found["masks"][:, 0] >= 0.5
        share = masks.flatten(1).float().mean(1)
        kept = (found["scores"] >= self.min_score) & (share < self.max_area) & (share > 0)
        return list(masks[kept].cpu().numpy())


HOW = (
    "on a machine with network: python -c \"import torchvision.models.detection as d; d.maskrcnn_resnet50_fpn_v2(weights='DEFAULT')\", "
    "then copy ~/.cache/torch/hub, or give the file by --set masks.weights=FILE; or choose --masks random, motion or boxes:FILE"
)


def cached_weights() -> Path:
    """The weights in torch hub's cache (TORCH_HOME); UsageError saying how to get them otherwise."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in _HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"--masks segmentation needs the weights of torchvision's Mask R-CNN, which are not in {folder}", HOW)


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file; UsageError where it cannot be read (nothing in it is executed)."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"{file}: not a readable file of weights ({str(error).splitlines()[0]})", HOW) from None


class ObjectBoxes:
    """Objects as a file of boxes has them.

    Args:
        file: see `BoxFile`.
        min_score: least confidence.
        max_area: larger objects are passed over, share of the frame.
    """

    def __init__(self, file: str | Path, min_score: float, max_area: float):
        self.file, self.max_area = BoxFile(file, min_score), max_area

    def of(self, path: str) -> dict[int, np.ndarray] | None:
        """frame -> `(n, 4)` boxes of the video at an absolute `path`; None: the file does not name it. VideoError: it does so twice."""
        try:
            return self.file.find(path)
        except InputError as error:
            raise VideoError(path, error.message.removeprefix(f"{path}: ")) from None

    def masks(self, boxes: Iterable[Sequence[float]], height: int, width: int, scale: tuple[float, float]) -> list[np.ndarray]:
        """`(height, width)` bool masks of boxes; scale: written over stored width and height."""
        sx, sy = scale
        made = [fill_box(height, width, (x1 * sx, y1 * sy, x2 * sx, y2 * sy)) for x1, y1, x2, y2 in boxes]
        return [mask for mask in made if 0 < mask.mean() < self.max_area]
