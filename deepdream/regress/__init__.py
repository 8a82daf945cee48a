"""The check that this installation dreams what Google's notebook dreamt, by statistics of the pictures."""
