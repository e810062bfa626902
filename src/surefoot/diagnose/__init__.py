"""Judges what was measured: plain data in, findings and decisions out, without torch."""
