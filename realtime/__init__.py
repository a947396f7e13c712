"""Realtime: the capture → infer → render loop and the command ``rt-seg``."""
