"""Generic event boundaries: where do things change in a video? An embedded detector, cVCLR + MotionSqueeze pretraining, fine-tuning."""
