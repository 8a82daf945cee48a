"""A dream in a browser: a page, as one file or as parts for a web server, that runs the step graphs by itself."""
