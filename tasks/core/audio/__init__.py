"""The sound of a file on the clock of its pictures, and log-mel spectrograms."""
