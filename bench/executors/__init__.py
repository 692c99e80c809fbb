"""Ways to carry out a plan: in this process, in processes side by side, or on a Ray cluster.

`desk` is the driver's side of them all. `serial` runs cells one by one in the driver. `pool` hands cells to workers and
hears of them, whatever the workers are: `processes` of this machine, or the tasks of a `cluster`. `shipment` is what
travels to a worker and back, and `supplies` how a worker comes by images and weights.
"""
