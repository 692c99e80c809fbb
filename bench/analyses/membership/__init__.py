"""Membership inference: does the model betray who was in its training part?"""
