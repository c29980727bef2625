"""Sentences and when they hold in a video: Temporal Alignment Networks (Han et al., CVPR 2022; thesis chapter 7)."""
