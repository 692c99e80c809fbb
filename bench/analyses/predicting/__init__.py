"""A finished cell's answer on new images, and what is to be thought of it."""
