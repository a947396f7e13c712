"""Sinks: video files, image sequences, windows, label files and logs."""
