"""Ways of scoring: one file per protocol."""
