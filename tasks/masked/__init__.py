"""Masked video modelling: reconstruct what a sampler hid."""
