"""Gradient inversion: what does a client's update show of its images?"""
