"""What was seen, as plain data: rows, outcomes, records, and the run folder that keeps them. No torch."""
