"""Calibration: Cityscapes and CamVid readers, metrics, and INT8 quantisation of a network."""
