"""What a net sees: the classes that it finds in a picture, and what each channel of a layer looks for."""
