"""K runs advanced as one: the only room that knows how."""
