"""What a killed part costs: rows lost, rows twice, seconds until the table is whole."""
