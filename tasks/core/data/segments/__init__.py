"""Timed annotations as rows of a manifest: importers of what data sets publish."""
