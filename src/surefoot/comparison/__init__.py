"""The teaching room: update rules against each other, and on surfaces where theory knows the answer."""
