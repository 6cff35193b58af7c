"""The report of an evaluation: one HTML file that opens without a server or a network."""
