"""Dreams of films: the detail that a dream adds moves along with what the film shows."""
