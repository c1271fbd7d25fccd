"""Patterns against dlib's HOG face detector, by simulated annealing on its continuous scores."""
