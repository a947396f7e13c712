"""The live page: a small server that shows the loop to browsers and takes their wishes."""
