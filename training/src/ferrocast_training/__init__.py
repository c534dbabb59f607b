"""Trains the models that Ferrocast serves: data in, one checked ONNX graph out."""
