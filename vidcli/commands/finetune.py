"""`vid finetune`: train on labelled videos, from a pretrained encoder or from scratch."""

from vidcli.options import examples
from vidcli.training import training_command

HELP = """Train on labelled videos, pretrained or from scratch.

The run folder is resumable: the same command again continues it, and a finished run says so. Settings come, low to high, from the
schema's defaults, the preset, --config files, the flags below and --set."""

EXAMPLES = examples(
    "vid finetune --preset classify/tiny --from runs/pretrain-masked-tats-tiny --data train.csv --val val.csv",
    "vid finetune --preset classify/tiny --data all.csv@train --val all.csv@val --name scratch",
    "vid finetune --preset classify/tiny --data train.csv --val val.csv --dry-run --json",
)

command = training_command("finetune", without=("visualize",))
