"""One-class video anomaly detection: two autoencoders, a discriminator, score fusion; and an embedded detector."""
