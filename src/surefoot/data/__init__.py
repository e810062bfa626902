"""From what the user has to checked tensors, and from tensors to batches.

`load` turns a name, a path or arrays into a `DataSet`; `batches` gives the order of every epoch and the batch of
every step; `augment` varies images. Readers (`digits`, `cifar`, `folder`, `table`, `arrays`) use NumPy alone.
"""
