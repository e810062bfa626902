"""The steps of the procedure, one folder each: facts, how they are measured, how they are judged, and the verb."""
