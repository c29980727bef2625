"""Text as models take it."""
