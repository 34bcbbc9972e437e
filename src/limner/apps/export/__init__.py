"""Exports of a trained model to formats that run without Python: ONNX, one HTML file, a hub folder."""
