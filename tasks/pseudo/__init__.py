"""Pseudo-anomalies from normal video: inpainted regions and mixed optical flow."""
