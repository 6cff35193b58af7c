"""The papers' evaluation commands."""
