"""What one clip of fine-tuning or probing costs, for `vid finetune --plan`."""

import torch

from tasks.classify.config import FinetuneConfig
from tasks.classify.finetune import architecture
from tasks.classify.method import Classification
from tasks.core.engine.plan import Workload
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.core.nn.flops import TRAINING, encoder_flops, linear_flops
from tasks.core.nn.memory import SavedActivations, encoder_kept


def workload(config: FinetuneConfig, classes: int) -> Workload:
    """Parameters, operations and activations of one clip; a probe's frozen encoder has a forward pass only, and keeps its tokens.

    Of the head only its linear layers over all tokens and to the classes count.
    """
    model, mode = architecture(config), config.head.mode
    if not isinstance(model, VitConfig):
        raise UsageError(f"--plan counts transformers, not encoders of the family '{model.family}'", "--dry-run says what would run")
    with torch.device("meta"):
        method = Classification(config, model, classes)
    dim, n = model.widths()[0], model.n_tokens()
    head = linear_flops(1, dim, classes) + (linear_flops(n, dim, 2 * dim) if mode == "attentive" else 0)
    encoder, whole = encoder_flops(model), mode == "finetune"
    return Workload(
        parameters=sum(p.numel() for p in method.parameters()),
        forward={"encoder": encoder, "head": head},
        training={"encoder": (TRAINING if whole else 1) * encoder, "head": TRAINING * head},
        kept={
            "encoder": encoder_kept(model) if whole else SavedActivations(n * dim),
            "head": SavedActivations(0, (3 * n * dim if mode == "attentive" else 0) + dim),
        },
        clip=model.frames * 3 * model.image_size**2,
        trained=sum(p.numel() for p in method.parameters() if p.requires_grad),
    )


WORKLOADS = {"finetune": workload}
