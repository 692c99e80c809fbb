"""Batch times: what is timed, the networks that are stepped, and the measurements that a run keeps."""
