"""What the kernels are made of: sums of products in vector registers, e^x, and waiting for other threads."""

# Numba declares no types, and a compiled function's arguments have them only when it is called.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from igpt_tf.sampling.native.compiling import compiled, processor

# Numbers in a vector of float32: one register with AVX-512, several elsewhere.
LANES = 16
# Outputs of a product that are computed together, and positions of the cache that lie together.
TILE, BLOCK = 2 * LANES, LANES
# Rows of a batch that share the weights in registers: sixteen accumulators with the 32 registers of AVX-512.
WIDE = "+avx512f" in processor()
# Weights are asked for this many bytes before they are read: the processor alone does not look that far ahead.
AHEAD, CACHE_LINE = 4096, 64
# Spins at a barrier before the thread lets others run.
SPINS = 4000

_FLOAT, _INT, _BYTES = ir.FloatType(), ir.IntType(32), ir.IntType(8).as_pointer()
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
yield_processor = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


def _address(context: Any, builder: Any, kind: Any, array: Any, *index: Any) -> Any:
    """The address of an element of a one-dimensional array."""
    data = context.make_array(kind)(context, builder, array).data
    for part in index:
        data = builder.gep(data, [part])
    return data


def _load(builder: Any, kind: Any, address: Any) -> Any:
    """A vector of float32 from 16 stored numbers."""
    stored = ir.VectorType(address.type.pointee, LANES)
    vector = builder.load(builder.bitcast(address, stored.as_pointer()), align=1)
    if kind.dtype == types.uint16:
        upper = builder.shl(builder.zext(vector, _INTS), ir.Constant(_INTS, [16] * LANES))
        return builder.bitcast(upper, _VECTOR)
    return builder.sitofp(vector, _VECTOR) if kind.dtype == types.int8 else vector


def _prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address."""
    flags = (0, 2, 1)  # to read, into the second cache, of data
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_BYTES, *[_INT] * len(flags)]), "llvm.prefetch.p0i8"
    )
    builder.call(function, [builder.bitcast(address, _BYTES), *(ir.Constant(_INT, flag) for flag in flags)])


def _combine(n_rows: int, n_vectors: int) -> Any:
    """Compile `out[r, v] = sum over i of x[r, i] * w[i, v]` for all of `n_rows` rows and `n_vectors` vectors."""

    @intrinsic
    def combine(typing_context, out, o, o_stride, x, x_at, x_stride, w, w_at, w_stride, n):
        def generate(context, builder, signature, arguments):
            out, o, o_stride, x, x_at, x_stride, w, w_at, w_stride, n = arguments
            size = n.type
            xs = [
                _address(context, builder, signature.args[3], x, x_at, builder.mul(x_stride, ir.Constant(size, r)))
                for r in range(n_rows)
            ]
            weights = _address(context, builder, signature.args[6], w, w_at)
            nothing = ir.Constant(_VECTOR, [0.0] * LANES)
            start = builder.block
            loop, end = builder.append_basic_block("loop"), builder.append_basic_block("end")
            builder.cbranch(builder.icmp_signed("<", ir.Constant(size, 0), n), loop, end)
            builder.position_at_end(loop)
            i, sums = builder.phi(size), [[builder.phi(_VECTOR) for _ in range(n_vectors)] for _ in range(n_rows)]
            row = builder.gep(weights, [builder.mul(i, w_stride)])
            n_bytes = n_vectors * LANES * signature.args[6].dtype.bitwidth // 8
            for line in range(AHEAD, AHEAD + n_bytes, CACHE_LINE):
                later = builder.gep(builder.bitcast(row, _BYTES), [ir.Constant(size, line)])
                _prefetch(builder, later)
            vectors = [
                _load(builder, signature.args[6], builder.gep(row, [ir.Constant(size, LANES * v)]))
                for v in range(n_vectors)
            ]
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
            )
            added = []
            for r in range(n_rows):
                number = builder.load(builder.gep(xs[r], [i]))
                first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(_INT, 0))
                spread = builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * LANES))
                added.append([builder.call(fma, [spread, vectors[v], sums[r][v]]) for v in range(n_vectors)])
            following = builder.add(i, ir.Constant(size, 1))
            i.add_incoming(ir.Constant(size, 0), start)
            i.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, n), loop, end)
            builder.position_at_end(end)
            for r in range(n_rows):
                for v in range(n_vectors):
                    sums[r][v].add_incoming(nothing, start)
                    sums[r][v].add_incoming(added[r][v], loop)
                    total = builder.phi(_VECTOR)
                    total.add_incoming(nothing, start)
                    total.add_incoming(added[r][v], loop)
                    added[r][v] = total
            for r in range(n_rows):
                at = builder.add(o, builder.mul(o_stride, ir.Constant(size, r)))
                for v in range(n_vectors):
                    place = _address(context, builder, signature.args[0], out, at, ir.Constant(size, LANES * v))
                    builder.store(added[r][v], builder.bitcast(place, _VECTOR.as_pointer()), align=4)
            return context.get_dummy_value()

        integer = types.intp
        return (
            types.void(out, integer, integer, x, integer, integer, w, integer, integer, integer),
            generate,
        )

    return combine


rows_8, rows_4, rows_2, rows_1 = (_combine(n, 2) for n in (8, 4, 2, 1))
vectors_4, vectors_1 = _combine(1, 4), _combine(1, 1)


@intrinsic
def _ask_for(typing_context, array, at):
    """Ask for the cache line of an element that is read later."""

    def generate(context, builder, signature, arguments):
        _prefetch(builder, _address(context, builder, signature.args[0], *arguments))
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def arrive(typing_context, counters, i):
    """Count one more thread; the count before."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.atomic_rmw("add", address, ir.Constant(address.type.pointee, 1), "acq_rel")

    return types.int64(counters, types.intp), generate


@intrinsic
def observe(typing_context, counters, i):
    """A counter as other threads have left it."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(counters, types.intp), generate


@intrinsic
def as_float(typing_context, bits):
    """The float32 with these 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], _FLOAT
    )


@intrinsic
def as_int(typing_context, number):
    """The 32 bits of a float32."""
    return types.int32(types.float32), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], _INT
    )


@compiled(fastmath={"contract"})
def exponential(x):
    """e^x in float32 to an ulp or two for x from -60 to 60, without a branch, so that loops over it run in vectors.

    Source: the polynomial of Moshier's Cephes library, `expf`.
    """
    # Further away it would be nothing beside 1, but products with numbers so small take many times as long.
    x = min(max(x, np.float32(-60.0)), np.float32(60.0))
    # Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    shifted = x * np.float32(1.44269504088896341) + np.float32(12582912.0)
    power = shifted - np.float32(12582912.0)
    rest = x - power * np.float32(0.693359375)
    rest = rest - power * np.float32(-2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * rest + np.float32(1.3981999507e-3)
    y = y * rest + np.float32(8.3334519073e-3)
    y = y * rest + np.float32(4.1665795894e-2)
    y = y * rest + np.float32(1.6666665459e-1)
    y = y * rest + np.float32(5.0000001201e-1)
    y = y * rest * rest + rest + np.float32(1.0)
    return y * as_float((as_int(shifted) - np.int32(0x4B400000) + np.int32(127)) << np.int32(23))


@compiled()
def barrier(counters, n_threads):
    """Wait until all threads are here; False if the work was stopped meanwhile.

    Args:
        counters: int64 (2 * 8,): at 0 the arrivals so far, at 8, in a cache line of its own, 1 to stop.
        n_threads: of the step.
    """
    if n_threads > 1:
        until = (arrive(counters, 0) // n_threads + 1) * n_threads
        spins = 0
        while observe(counters, 0) < until:
            if observe(counters, 8):
                return False
            spins += 1
            if spins % SPINS == 0:
                yield_processor()
    return True


@compiled()
def ask_for(array, at, n):
    """Ask for the first n numbers from `at` on, up to what a product asks for itself."""
    line = CACHE_LINE // array.itemsize
    for j in range(0, min(n * array.itemsize, AHEAD) // CACHE_LINE):
        _ask_for(array, at + j * line)
