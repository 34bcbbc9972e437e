"""`limner search`: better options for a set of pictures, by many short runs of which the best go on."""
