"""Generic event boundaries: where do things change in a video? a training-free detector, cVCLR + MotionSqueeze pretraining, fine-tuning."""
