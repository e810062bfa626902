"""The steps of the procedure, one file each: measure, judge, and hand back a decision."""
