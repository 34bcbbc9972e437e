<<<<<<< HEAD
"""Trained models for other programs: an ONNX file, a page that runs by itself, a folder for a model hub."""
=======
"""Exports of a trained model to formats that run without Python: ONNX, one HTML file, a hub folder."""
>>>>>>> html
