"""From training checkpoints to model folders."""
