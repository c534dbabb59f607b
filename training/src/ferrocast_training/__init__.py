"""Trains the models that Ferrocast serves: data in, one checked ONNX graph out."""

import os

# ONNX Runtime tells its maker of each use, and writes about it into the user's folders, unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
