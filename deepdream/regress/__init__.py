"""Does this installation dream what Google's did? Dreams whose pixels cannot be compared, compared by statistics."""
