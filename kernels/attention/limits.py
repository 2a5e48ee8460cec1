"""What the attention takes, for who must know it before there is a tensor."""

HEAD_DIM_MIN, HEAD_DIM_MAX = 8, 128
