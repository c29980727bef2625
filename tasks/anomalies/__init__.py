"""One-class video anomaly detection: two autoencoders, a discriminator, score fusion; and a training-free detector."""
