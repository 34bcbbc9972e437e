"""Trained models for other programs: an ONNX file, a page that runs by itself, a folder for a model hub."""
