"""What the record of one run says. No torch."""
