"""What commands that go through many inputs share: one input after the other, results as files, what was done before, detectors."""
