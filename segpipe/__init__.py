"""segpipe: from a folder of scans and labels to a scored, reported segmentation model."""

__version__ = "0.1.0"
