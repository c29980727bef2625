"""`vid pretrain`: learn an encoder from videos without labels."""

from vidcli.options import examples
from vidcli.training import training_command

HELP = """Learn an encoder from videos without labels.

The run folder is resumable: the same command again continues it, and a finished run says so. Settings come, low to high, from the
schema's defaults, the preset, --config files, the flags below and --set."""

EXAMPLES = examples(
    "vid pretrain --preset masked/tats-tiny --data videos/",
    "vid pretrain --preset masked/tats-tiny --data videos/ --dry-run",
    "vid pretrain --preset masked/tats-tiny --data train.csv --set mask_ratio=0.9 --name rho90",
    "vid pretrain --preset masked/tats-tiny --data train.csv --processes 2",
    "vid pretrain --preset masked/tats-tiny --data train.csv --profile 10",
    "vid pretrain --preset masked/tats-vitb-k400 --set model.size=large --plan --nodes 8 --gpus 8 --assume videos=240000",
)

command = training_command("pretrain")
