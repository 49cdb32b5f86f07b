"""Drawing on processors without Keras: a step of all images is one call of machine code that Numba compiles.

`network` is what the sampler knows; `weights` lays matrices out in the order in which a step reads them; `prefix`
computes known pixels and whole images with NumPy; `kernels` is the step, made of `vectors`; `team` runs it on several
cores; `compiling` keeps what was compiled.
"""
