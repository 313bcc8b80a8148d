"""What a table costs: a forecast before a run, the bill after it, in seconds, device-hours and money."""
