"""Sources: cameras, streams, files, images, screens and test pictures, as frames."""
