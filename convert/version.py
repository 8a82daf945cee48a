"""Version of the converter's output: part of the name of every graph that is kept, so a new number makes them new."""
VERSION = 13
