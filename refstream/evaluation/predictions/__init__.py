"""Readers of predictions in the formats that people have."""
