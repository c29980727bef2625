"""Learning by predicting the future of a clip in feature space: DPC and MemDPC."""
