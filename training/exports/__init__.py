"""Exports of small models that were really trained: what the server's tests load and score."""
