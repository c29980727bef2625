"""The table of tasks: name -> subpackage and the verbs it offers. Names only; modules are imported when used."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tasks.core.errors import UsageError


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: also the folder under `tasks/` and under `presets/`.
        summary: one line for listings.
        verbs: verb -> module below the subpackage; the module has `run(config, run)`.
        within: the subpackage, where it is not `tasks.<name>`: what every encoder can do belongs to the core.
    """

    name: str
    summary: str
    verbs: dict[str, str]
    within: str | None = None

    @property
    def package(self) -> str:
        """The subpackage with `config.py` and the modules of the verbs."""
        return self.within or f"tasks.{self.name}"


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("masked", "masked video modelling: VideoMAE, AdaMAE, TATS", {"pretrain": "pretrain"}),
        Task("predictive", "predicting the future in feature space: DPC, MemDPC", {"pretrain": "pretrain"}),
        Task("classify", "action recognition on any pretrained encoder", {"finetune": "finetune", "eval": "evaluate", "label": "label"}),
        Task(
            "contrastive", "contrastive learning: InfoNCE, UberNCE, CoCLR with a queue of keys; video with text", {"pretrain": "pretrain"}
        ),
        Task(
            "boundaries",
            "generic event boundaries: cVCLR with MotionSqueeze, fine-tuning, detection",
            {"pretrain": "pretrain", "finetune": "finetune", "detect": "detect"},
        ),
        Task(
            "anomalies",
            "one-class anomaly detection: autoencoders on frames and flow, a discriminator",
            {"pretrain": "pretrain", "detect": "detect"},
        ),
        Task("pseudo", "pseudo-anomalies: latent-diffusion inpainting, flow mixup", {"pretrain": "pretrain", "generate": "generate"}),
        Task(
            "localization",
            "events with class, start and end from picture and sound: DEL, ActionFormer, UnAV",
            {"finetune": "finetune", "detect": "detect"},
        ),
        Task(
            "prompting",
            "video by words: CLIP with learned prompts and a transformer over frames",
            {
                "finetune": "finetune",
                "eval": "evaluate",
                "retrieve": "retrieve",
                "detect": "detect",
                "index": "search.build",
                "search": "search.find",
            },
        ),
        Task(
            "alignment",
            "sentences and when they hold in a video: TAN, with co-training",
            {"pretrain": "pretrain", "align": "align"},
        ),
        Task(
            "features",
            "what a trained encoder makes of videos, as arrays",
            {"extract": "extract", "sound": "sound"},
            within="tasks.core.towers",
        ),
    )
}


def task_for(name: str, verb: str) -> Task:
    """The task `name`, which must offer `verb`; raises UsageError naming what exists."""
    task = TASKS.get(name)
    if task is None:
        raise UsageError(f"unknown task '{name}'", f"known tasks: {', '.join(TASKS)}")
    if verb not in task.verbs:
        raise UsageError(f"task '{name}' has no verb '{verb}'", f"it offers: {', '.join(task.verbs)}")
    return task


def schema(name: str, verb: str) -> Any:
    """The configuration class of a task's verb (from the task's `config.py`, which never imports torch)."""
    return import_module(f"{task_for(name, verb).package}.config").CONFIGS[verb]


def verb_module(name: str, verb: str) -> Any:
    """The module that implements a verb: it has `run(config, run)` and, for training, `plan(config) -> dict` and `check(config)`."""
    task = task_for(name, verb)
    return import_module(f"{task.package}.{task.verbs[verb]}")


def example(name: str, verb: str) -> Any:
    """What `--plan` counts of a training verb: `example(config, classes)` gives a `core.engine.workload.Example` on torch's default device;
    UsageError where a task has none.
    """
    package = task_for(name, verb).package
    known = {}
    if find_spec(f"{package}.workload") is not None:
        known = import_module(f"{package}.workload").EXAMPLES
    if verb not in known:
        raise UsageError(f"there is no --plan for {verb} of task '{name}'", "--dry-run says what would run")
    return known[verb]
