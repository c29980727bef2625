"""Prompted CLIP: frozen towers of pictures and text, learned vectors around class names, a small transformer over time."""
