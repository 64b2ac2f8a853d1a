"""Norm, neuron and surrogate in one pass over the data, forward and backward, in Triton; fused.cpp for a GPU.

A program has a tile of [ROWS, COLS] values at each step: COLS channels, and ROWS of the R = B S pairs of a sample and a
position. It goes through the steps by itself, so that membranes stay in registers, and writes its sum for each
channel beside the sums of the others: nothing is added in an order that is not fixed.

Backward needs the membranes of all steps in reverse. They are too many for registers, and computing each from the start
would read x T times. So a first sweep leaves each v where the second, once it has read it, writes grad_x (beside it
where that is too narrow): a program's few kilobytes are still in the cache when it comes back, and any T works.

Nothing is imported from Triton but its language's own operations: additions of its library (tl.sum, tl.zeros) are
interpreted only if all of Triton is.
"""

from __future__ import annotations

import functools
import linecache

import triton
import triton.language as tl


@triton.jit
def exponential(y):
    """Compute e^y."""
    return tl.exp(y)


@triton.jit
def sigmoid(y):
    """Compute 1 / (1 + e^-y), of a power that does not overflow."""
    power = tl.exp(-tl.abs(y))
    return tl.where(y < 0, power, 1.0) / (1 + power)


@triton.jit
def absolute(y):
    """Compute |y|."""
    return tl.abs(y)


@triton.jit
def positive(y):
    """Compute max(y, 0)."""
    return tl.maximum(y, 0.0)


@triton.jit
def where(condition, yes, no):
    """Select yes where the condition holds, else no."""
    return tl.where(condition, yes, no)


@functools.cache
def surrogate_of(expression):
    """Compile k(y) of forms.KERNELS to a function of y, alpha and beta; Triton reads sources, so it is given one."""
    source = f"def k(y, alpha, beta):\n    return {expression}\n"
    name = f"<k(y) = {expression}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), globals(), scope := {})
    return triton.jit(scope["k"])


@triton.jit
def tile(channels, size, rows, stride_c, stride_s, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Locate a program's tile: its channels, which of its values exist, and their offsets within a step."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    at = (row // size).to(tl.int64) * (channels * size) + row % size * stride_s + c * stride_c
    return c, (row < rows) & (c < channels), at


@triton.jit
def of_channel(values, c, channels, F: tl.constexpr, other: tl.constexpr = 0.0):
    """Load one number per channel, and another where there is no channel."""
    return tl.load(values + c, mask=c < channels, other=other).to(F)


@triton.jit
def keep_sum(sums, c, channels, values):
    """Store the sum of a tile's values for each channel where no other program writes."""
    total = tl.reduce(values, 0, tl.standard._sum_combine, keep_dims=True)
    tl.store(sums + tl.program_id(0) * channels + c, total, mask=c < channels)


@triton.jit
def nothing(like):
    """Return zeros."""
    return tl.full(like.shape, 0.0, like.dtype)


@triton.jit
def charge(v, x, v_reset, leak, DYNAMICS: tl.constexpr):
    """Compute the membrane h."""
    if DYNAMICS == "Memoryless":
        return x
    elif DYNAMICS == "Integrate":
        return v + x
    elif DYNAMICS == "Leak":
        return v + (x - (v - v_reset)) * leak
    elif DYNAMICS == "Decay":
        return v - v / leak + x
    else:
        return v - (v - v_reset) * leak + x


@triton.jit
def charge_back(grad, v, x, v_reset, leak, DYNAMICS: tl.constexpr):
    """Propagate a gradient of h back to v, x and the leak."""
    if DYNAMICS == "Memoryless":
        return nothing(grad), grad, nothing(grad)
    elif DYNAMICS == "Integrate":
        return grad, grad, nothing(grad)
    elif DYNAMICS == "Leak":
        return grad - grad * leak, grad * leak, grad * (x - (v - v_reset))
    elif DYNAMICS == "Decay":
        return grad - grad / leak, grad, nothing(grad)
    else:
        return grad - grad * leak, grad, -grad * (v - v_reset)


@triton.jit
def reset(v, h, s, threshold, v_reset, decay, RESET: tl.constexpr):
    """Compute the new v."""
    if RESET == "Hard":
        return tl.where(s != 0, v_reset, h)
    elif RESET == "Soft":
        return h - s * threshold
    else:
        return decay * v - threshold * s


@triton.jit
def reset_back(grad, h, s, threshold, v_reset, decay, RESET: tl.constexpr):
    """Propagate a gradient of the new v back to s, h, the old v and the threshold."""
    if RESET == "Hard":
        return grad * (v_reset - h), grad * (1 - tl.abs(s)), nothing(grad), nothing(grad)
    elif RESET == "Soft":
        return -grad * threshold, grad, nothing(grad), -grad * s
    else:
        return -grad * threshold, nothing(grad), decay * grad, -grad * s


@triton.jit
def step(excess):
    """Compute 1 where a membrane is at its threshold or above, else 0."""
    return tl.where(excess >= 0, 1.0, 0.0).to(excess.dtype)


@triton.jit
def level(h, theta, EMITS: tl.constexpr, LEVELS: tl.constexpr):
    """Compute the level of a membrane."""
    if EMITS == "Ternary":
        return step(h - theta) - step(-h - theta)
    elif EMITS == "Passed":
        found = step(h - theta)
        for k in range(2, LEVELS + 1):
            found += step(h - k * theta)
        return found
    elif EMITS == "Rounded" or EMITS == "Quantized":
        return tl.floor(tl.minimum(tl.maximum(h / theta, 0.0), LEVELS * 1.0) + 0.5)
    else:
        return step(h - theta)


@triton.jit
def emitted(found, theta, EMITS: tl.constexpr):
    """Compute the output of a level."""
    if EMITS == "Signs":
        return 2 * found - 1
    elif EMITS == "Passed" or EMITS == "Quantized":
        return theta * found
    else:
        return found


@triton.jit
def level_back(
    grad, at_reset, h, theta, peak, width, alpha, beta,
    SURROGATE: tl.constexpr, RESET: tl.constexpr, EMITS: tl.constexpr, LEVELS: tl.constexpr,
):  # fmt: skip
    """Propagate the gradients of the output and of the reset's level back to h and the threshold."""
    if EMITS == "Ternary":
        above = (grad + at_reset) * (peak * SURROGATE((h - theta) / width, alpha, beta))
        from_reset = at_reset
        if RESET != "Hard":
            from_reset = -at_reset
        below = (from_reset - grad) * (peak * SURROGATE((-h - theta) / width, alpha, beta))
        return above - below, -above - below
    elif EMITS == "Passed":
        each = peak * SURROGATE((h - theta) / width, alpha, beta)
        times_k = each
        for k in range(2, LEVELS + 1):
            of_k = peak * SURROGATE((h - k * theta) / width, alpha, beta)
            each += of_k
            times_k += k * of_k
        return grad * theta * each, grad * (level(h, theta, EMITS, LEVELS) - theta * times_k)
    elif EMITS == "Rounded":
        y = h / theta
        at_y = (grad + at_reset) * tl.where((y >= 0) & (y <= LEVELS), 1.0, 0.0).to(grad.dtype) / theta
        return at_y, -at_y * y
    elif EMITS == "Quantized":
        y = h / theta
        within = tl.where((y >= 0) & (y <= LEVELS), 1.0, 0.0).to(grad.dtype)
        return grad * within, grad * (level(h, theta, EMITS, LEVELS) - within * y)
    else:
        grad_excess = (grad + at_reset) * (peak * SURROGATE((h - theta) / width, alpha, beta))
        return grad_excess, -grad_excess


@triton.jit
def read(x, at, there, scale, shift, NORMED: tl.constexpr, F: tl.constexpr):
    """Load the neuron's input: x, or norm(x)."""
    value = tl.load(x + at, mask=there, other=0.0).to(F)
    if NORMED:
        value = value * scale + shift
    return value


@triton.jit
def fire(
    x, s, threshold, learned_leak, statistics,
    num_steps, step, channels, size, rows, stride_c, stride_s, threshold_stride,
    v_reset: tl.float64, leak: tl.float64, decay: tl.float64,
    DYNAMICS: tl.constexpr, RESET: tl.constexpr, EMITS: tl.constexpr, LEVELS: tl.constexpr, LEARNS_LEAK: tl.constexpr,
    NORMED: tl.constexpr, F: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Compute the spikes s of x."""
    v_reset, leak, decay = tl.full((), v_reset, F), tl.full((), leak, F), tl.full((), decay, F)
    c, there, at = tile(channels, size, rows, stride_c, stride_s, ROWS, COLS)
    theta = of_channel(threshold, c * threshold_stride, channels, F, 1.0)  # by which levels are divided
    scale, shift = theta, theta
    if NORMED:
        scale = of_channel(statistics, c, channels, F)
        shift = of_channel(statistics + channels, c, channels, F)
    if LEARNS_LEAK:
        leak = tl.load(learned_leak).to(F)
    v = tl.full([ROWS, COLS], v_reset, F)
    for _ in range(num_steps):
        h = charge(v, read(x, at, there, scale, shift, NORMED, F), v_reset, leak, DYNAMICS)
        fired = level(h, theta, EMITS, LEVELS)
        v = reset(v, h, fired, theta, v_reset, decay, RESET)
        tl.store(s + at, emitted(fired, theta, EMITS), mask=there)
        at += step


@triton.jit
def back(
    x, grad_s, grad_x, v_before, sums, threshold, learned_leak, statistics,
    num_steps, step, channels, size, rows, stride_c, stride_s, threshold_stride,
    v_reset: tl.float64, leak: tl.float64, decay: tl.float64,
    peak: tl.float64, width: tl.float64, alpha: tl.float64, beta: tl.float64,
    SURROGATE: tl.constexpr, DYNAMICS: tl.constexpr, RESET: tl.constexpr, EMITS: tl.constexpr, LEVELS: tl.constexpr,
    DETACHED: tl.constexpr, LEARNS_THRESHOLD: tl.constexpr, LEARNS_LEAK: tl.constexpr, NORMED: tl.constexpr,
    F: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Propagate the gradient at s to x or norm(x), and sum those at threshold, leak, bias and gain."""
    v_reset, leak, decay = tl.full((), v_reset, F), tl.full((), leak, F), tl.full((), decay, F)
    peak, width = tl.full((), peak, F), tl.full((), width, F)
    alpha, beta = tl.full((), alpha, F), tl.full((), beta, F)
    c, there, at = tile(channels, size, rows, stride_c, stride_s, ROWS, COLS)
    theta = of_channel(threshold, c * threshold_stride, channels, F, 1.0)  # by which levels are divided
    scale, shift, mean, inverse_sd = theta, theta, theta, theta
    if NORMED:
        scale = of_channel(statistics, c, channels, F)
        shift = of_channel(statistics + channels, c, channels, F)
        mean = of_channel(statistics + 2 * channels, c, channels, F)
        inverse_sd = of_channel(statistics + 3 * channels, c, channels, F)
    if LEARNS_LEAK:
        leak = tl.load(learned_leak).to(F)

    v = tl.full([ROWS, COLS], v_reset, F)
    for _ in range(num_steps - 1):
        if DYNAMICS != "Memoryless":
            h = charge(v, read(x, at, there, scale, shift, NORMED, F), v_reset, leak, DYNAMICS)
            fired = level(h, theta, EMITS, LEVELS)
            v = reset(v, h, fired, theta, v_reset, decay, RESET)
            tl.store(v_before + at + step, v, mask=there)
        at += step
    tl.debug_barrier()  # another thread of the program may load what this one has stored

    grad_v = tl.full([ROWS, COLS], 0.0, F)
    by_threshold, by_leak, by_bias, by_gain = grad_v, grad_v, grad_v, grad_v
    for later in range(num_steps):
        if DYNAMICS != "Memoryless":
            v = tl.where(later < num_steps - 1, tl.load(v_before + at, mask=there, other=0.0), v_reset)
        value = read(x, at, there, scale, shift, NORMED, F)
        h = charge(v, value, v_reset, leak, DYNAMICS)
        fired = level(h, theta, EMITS, LEVELS)
        at_s, at_h, at_v, at_threshold = reset_back(grad_v, h, fired, theta, v_reset, decay, RESET)
        grad_fired = tl.load(grad_s + at, mask=there, other=0.0).to(F)
        if DETACHED:
            at_s = nothing(at_s)
        of_h, of_threshold = level_back(
            grad_fired, at_s, h, theta, peak, width, alpha, beta, SURROGATE, RESET, EMITS, LEVELS
        )
        from_h, grad_value, at_leak = charge_back(of_h + at_h, v, value, v_reset, leak, DYNAMICS)
        if LEARNS_THRESHOLD:
            by_threshold += at_threshold + of_threshold
        if LEARNS_LEAK:
            by_leak += at_leak
        if NORMED:
            by_bias += grad_value
            by_gain += grad_value * ((tl.load(x + at, mask=there, other=0.0).to(F) - mean) * inverse_sd)
        tl.store(grad_x + at, grad_value, mask=there)
        grad_v = at_v + from_h
        at -= step

    apart = tl.num_programs(0) * channels
    if LEARNS_THRESHOLD:
        keep_sum(sums, c, channels, by_threshold)
    if LEARNS_LEAK:
        keep_sum(sums + apart, c, channels, by_leak)
    if NORMED:
        keep_sum(sums + 2 * apart, c, channels, by_bias)
        keep_sum(sums + 3 * apart, c, channels, by_gain)


@triton.jit
def through_statistics(
    x, grad_x, statistics, grad_bias, grad_gain, num_steps, step, channels, size, rows, stride_c, stride_s,
    num_values: tl.float64, F: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Replace the gradient at norm(x) by scale (grad - mean(grad) - x_hat mean(grad x_hat))."""
    c, there, at = tile(channels, size, rows, stride_c, stride_s, ROWS, COLS)
    scale = of_channel(statistics, c, channels, F)
    mean = of_channel(statistics + 2 * channels, c, channels, F)
    inverse_sd = of_channel(statistics + 3 * channels, c, channels, F)
    share = 1 / tl.full((), num_values, F)
    mean_grad = of_channel(grad_bias, c, channels, F) * share
    slope = of_channel(grad_gain, c, channels, F) * share * inverse_sd
    for _ in range(num_steps):
        distance = tl.load(x + at, mask=there, other=0.0).to(F) - mean
        grad = tl.load(grad_x + at, mask=there, other=0.0).to(F)
        tl.store(grad_x + at, scale * (grad - mean_grad - distance * slope), mask=there)
        at += step


@triton.jit
def moments(
    x, sums, num_steps, step, channels, size, rows, stride_c, stride_s,
    F: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Sum the distances to a channel's first value, and their squares: nothing large cancels."""
    c, there, at = tile(channels, size, rows, stride_c, stride_s, ROWS, COLS)
    pivot = of_channel(x, c * stride_c, channels * stride_c, F)
    first = tl.full([ROWS, COLS], 0.0, F)
    second = first
    for _ in range(num_steps):
        distance = tl.where(there, tl.load(x + at, mask=there, other=0.0).to(F) - pivot, 0.0)
        first += distance
        second += distance * distance
        at += step
    keep_sum(sums, c, channels, first)
    keep_sum(sums + tl.num_programs(0) * channels, c, channels, second)


@triton.jit
def settle(
    x, sums, gain, bias, running_mean, running_var, statistics, num_sums, channels, stride_c,
    num_values: tl.float64, eps: tl.float64, momentum: tl.float64,
    F: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Compute scale, shift, mean and 1 / sd of each channel, and the running statistics, from all programs' sums."""
    c = tl.program_id(0) * COLS + tl.arange(0, COLS)[None, :]
    there = c < channels
    first = tl.full([ROWS, COLS], 0.0, tl.float64)
    second = first
    for start in range(0, num_sums, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        mask = there & (row < num_sums)
        first += tl.load(sums + row * channels + c, mask=mask, other=0.0).to(tl.float64)
        second += tl.load(sums + (num_sums + row) * channels + c, mask=mask, other=0.0).to(tl.float64)
    values, eps = tl.full((), num_values, tl.float64), tl.full((), eps, tl.float64)
    momentum = tl.full((), momentum, tl.float64)
    from_pivot = tl.reduce(first, 0, tl.standard._sum_combine, keep_dims=True) / values
    square = tl.reduce(second, 0, tl.standard._sum_combine, keep_dims=True) / values
    mean = of_channel(x, c * stride_c, channels * stride_c, tl.float64) + from_pivot
    var = tl.maximum(square - from_pivot * from_pivot, 0.0)
    inverse_sd = 1 / tl.sqrt(var + eps)
    scale = of_channel(gain, c, channels, tl.float64) * inverse_sd
    shift = of_channel(bias, c, channels, tl.float64) - mean * scale
    tl.store(statistics + c, scale.to(F), mask=there)
    tl.store(statistics + channels + c, shift.to(F), mask=there)
    tl.store(statistics + 2 * channels + c, mean.to(F), mask=there)
    tl.store(statistics + 3 * channels + c, inverse_sd.to(F), mask=there)
    old_mean = of_channel(running_mean, c, channels, tl.float64)
    old_var = of_channel(running_var, c, channels, tl.float64)
    unbiased = var * values / (values - 1)
    tl.store(running_mean + c, old_mean + momentum * (mean - old_mean), mask=there)
    tl.store(running_var + c, old_var + momentum * (unbiased - old_var), mask=there)
