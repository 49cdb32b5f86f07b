"""JAX computes the numbers that NumPy does, also where a version of its library has a wrong kernel."""

import pytest

from examples import run_python
from igpt_tf.backend import on_tensorflow

pytestmark = pytest.mark.both_backends

# Small vectors, many of them: the last ones came out wrong with jaxlib 0.10.2.
PRODUCT = """
{first}
import jax
import numpy as np

rng = np.random.default_rng(0)
matrix, vectors = rng.normal(size=(3, 3)).astype("f4"), rng.normal(size=(40_000, 3)).astype("f4")
found = jax.jit(lambda a, v: jax.vmap(lambda row: (a @ row).sum())(v))(matrix, vectors)
np.testing.assert_allclose(found, (vectors @ matrix.T).sum(1), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.parametrize(
    "first",
    ["import igpt_tf; igpt_tf.ImageGPT", "from igpt_tf.cli.backends import load_backend; load_backend()"],
    ids=["library", "command line"],
)
def test_a_product_followed_by_a_reduction_is_right(first):
    if on_tensorflow():
        pytest.skip("JAX alone has the kernel")
    done = run_python(PRODUCT.format(first=first), XLA_FLAGS="")
    assert done.returncode == 0, done.stderr
