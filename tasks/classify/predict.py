"""A trained classifier in Python, without the command line.

from tasks.classify.predict import load
model = load("runs/mine-ssv2")
print(model.predict("clip.mp4"))
"""

from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.classify.evaluate import load_classifier
from tasks.classify.turbo import drop_pattern, token_chooser
from tasks.core.towers.encoder import mean_over_views


class VideoClassifier(nn.Module):
    """A classifier with its labels and the way videos must be brought to it.

    Attributes:
        labels: class names in the order of the logits.
        preprocessing: of config.json.
        classifier: encoder and head.
        pattern: in which tokens are left out where not all are kept.
    """

    def __init__(self, classifier: nn.Module, labels: list[str], preprocessing: dict[str, Any], pattern: str = "random"):
        super().__init__()
        self.classifier, self.labels, self.preprocessing, self.pattern = classifier, labels, preprocessing, pattern

    def forward(self, video: torch.Tensor, boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised `(B, T, 3, S, S)` float32, and `boxes` `(B, T, 4)` px for a classifier that looks at them, to logits
        `(B, n_classes)`.
        """
        return self.classifier(video, boxes=boxes)

    @torch.no_grad()
    def predict(self, path: str | Path, clips: int = 5, crops: int = 3, keep: float = 1.0, seed: int = 0) -> dict[str, float]:
        """Class probabilities of a video, the most probable first: those of `vid eval classify --scores` in float32.

        Args:
            path: a file or a folder of pictures. Raises InputError where it cannot be read.
            clips: windows spread over the video.
            crops: squares of each: 1, 3 or 10.
            keep: share of a transformer's tokens that it sees of every view, drawn at random.
            seed: of that draw.
        """
        views = count()
        choose = token_chooser(self.classifier, self.pattern, keep, seed) if keep < 1 else None

        def probabilities(video: torch.Tensor, boxes: torch.Tensor | None = None) -> torch.Tensor:
            index = None if choose is None else choose([next(views)]).to(video.device)
            return self.classifier(video, index, boxes).float().softmax(-1)

        mean = mean_over_views(probabilities, path, self.preprocessing, clips, crops, self)
        return {self.labels[number]: float(mean[number]) for number in mean.argsort(descending=True).tolist()}


def load(reference: str | Path, device: torch.device | str = "cpu") -> VideoClassifier:
    """The classifier of a model folder, a run folder or an `hf://` id, in evaluation mode. Raises UsageError when there is none."""
    classifier, saved = load_classifier(str(reference), device)
    return VideoClassifier(classifier, saved["labels"], saved["preprocessing"], drop_pattern(saved)).eval()
