"""Action recognition on any pretrained video encoder."""
