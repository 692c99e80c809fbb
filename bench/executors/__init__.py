"""Ways to carry out a plan: in this process, in processes side by side, or on a Ray cluster.

`driver` keeps the cells and their locks for them all. `serial` runs cells one by one in the driver's process. `pool`
hands cells to workers and takes their results, whatever the workers are: `processes` of this machine, or the tasks of a
Ray cluster (`ray`). `transfer` is what travels to a worker and back, and `artifacts` how a worker comes by images and
weights.
"""
