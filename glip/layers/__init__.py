"""Generic modules that know nothing of GLIP."""
