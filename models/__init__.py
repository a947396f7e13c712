"""The networks in Keras 3, their training and their export.

Nothing is imported here: building a network needs Keras, looking up where the
shipped weights lie does not.
"""
