import os

import numpy as np
import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter truncates to bfloat16 where a GPU rounds, and multiplies its bits as
    # integers: round as a GPU does, and multiply in float32.
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    create_dot, cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl

    def dot_of_floats(builder, a, b, *rest):
        a, b = (
            cast(builder, x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b)
        )
        return create_dot(builder, a, b, *rest)

    def rounding_cast(builder, x, dtype):
        if (x.dtype.scalar, dtype.scalar) == (tl.float32, tl.bfloat16):
            rounded = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16()
            return TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)
        return cast(builder, x, dtype)

    InterpreterBuilder.create_dot = dot_of_floats
    InterpreterBuilder.create_fp_trunc = rounding_cast


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
        ),
    ]
)
def device(request):
    """Every implementation there is on this machine."""
    return request.param


@pytest.fixture
def poisoned_memory():
    """Fill every tensor that ``torch.empty`` makes with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
