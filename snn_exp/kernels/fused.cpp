// Norm, neuron and surrogate in one pass over the data, forward and backward; one CPU thread.
//
// The compiler is given a single case (forms.py):
//
//     DYNAMICS  Memoryless, Integrate, Leak, LeakOfMembrane     h of v and x
//     RESET     Hard, Soft, Refractory                          v of h and s
//     EMITS     Spikes, Signs                                   s of h - threshold
//     SURROGATE an expression in y, alpha and beta              ds/dh = peak k(y), y = (h - threshold) / width
//     REAL      float or double: what is computed with
//     STORED    the same, or Bfloat16: what x, s and their gradients are in memory
//     DETACHED, LEARNS_THRESHOLD, LEARNS_LEAK                   true or false
//
// Shapes: x, s [T, B, C, S], S all positions of a channel; the N = C S values of a sample lie side by side, by channel
// or (channels_last) by position, and are taken in stretches of WIDTH, whose state stays in the first cache. No sum depends on the width of the machine's vectors, and
// no product and sum are contracted, so that the same numbers come out on every machine, and of the neurons'
// forward those of torch.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

namespace {

using Count = std::int64_t;
using F = REAL;

// The upper half of a float's bits, rounded to the nearest, ties to even.
struct Bfloat16 {
    std::uint16_t bits;

    Bfloat16() = default;
    Bfloat16(float value) {
        std::uint32_t whole;
        std::memcpy(&whole, &value, sizeof whole);
        bits = std::uint16_t((whole + 0x7fff + ((whole >> 16) & 1)) >> 16);
    }
    operator float() const {
        const std::uint32_t whole = std::uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &whole, sizeof value);
        return value;
    }
};

using Stored = STORED;
constexpr Count WIDTH = 512;
constexpr Count ROWS = 64;  // that are summed in F before they are added in double

// What a call reads and writes; build.py has the same.
struct Call {
    Count num_steps, batch, channels, size, channels_last, num_thresholds;  // one, or one a channel
    double rest, v_reset, leak, decay, peak, width, alpha, beta, eps, momentum;
    const Stored *x;
    const F *threshold, *gain, *bias;
    F *running_mean, *running_var;
    F *statistics;  // scale, shift, mean and 1 / sd of each channel, where there is a norm; else null
    Stored *s;
    const Stored *grad_s;
    Stored *grad_x;
    F *grad_threshold, *grad_leak, *grad_gain, *grad_bias;
};

F absolute(F y) {
    return y < 0 ? -y : y;
}

F positive(F y) {
    return y > 0 ? y : F(0);
}

F where(bool condition, F yes, F no) {
    return condition ? yes : no;
}

struct Float {
    using Bits = std::uint32_t;
    static constexpr int fraction = 23, bias = 127, terms = 7;
    static constexpr float least = -87, most = 88, round = 12582912;  // 1.5 * 2^23
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};

struct Double {
    using Bits = std::uint64_t;
    static constexpr int fraction = 52, bias = 1023, terms = 13;
    static constexpr double least = -708, most = 709, round = 6755399441055744;  // 1.5 * 2^52
    static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
};

using Of = std::conditional_t<sizeof(F) == sizeof(float), Float, Double>;

// e^y = 2^n e^r, |r| <= ln 2 / 2, e^r by its Taylor series; std::exp would not be vectorized.
F exponential(F y) {
    constexpr F inverse[] = {1,        1,        F(1. / 2), F(1. / 3),  F(1. / 4),  F(1. / 5),  F(1. / 6),
                             F(1. / 7), F(1. / 8), F(1. / 9), F(1. / 10), F(1. / 11), F(1. / 12), F(1. / 13)};
    y = y < Of::least ? Of::least : y;
    y = y > Of::most ? Of::most : y;
    F n = y * F(1.44269504088896340736) + Of::round;  // n in the lowest bits
    Of::Bits bits;
    std::memcpy(&bits, &n, sizeof bits);
    n -= Of::round;
    const F r = (y - n * Of::ln2_high) - n * Of::ln2_low;
    F series = 1;
    for (int k = Of::terms; k > 0; --k) series = 1 + r * series * inverse[k];
    bits = (bits + Of::bias) << Of::fraction;
    F power;
    std::memcpy(&power, &bits, sizeof power);
    return series * power;
}

F sigmoid(F y) {
    return 1 / (1 + exponential(-y));
}

F surrogate(F excess, const Call &call) {
    const F y = excess / F(call.width), alpha = F(call.alpha), beta = F(call.beta);
    (void)alpha, (void)beta;
    return F(call.peak) * F(SURROGATE);
}

// What a gradient of h becomes: at v, at x, at the leak.

struct Memoryless {
    static F charge(F, F x, F, F) { return x; }
    static F at_v(F, F) { return 0; }
    static F at_x(F grad, F) { return grad; }
    static F at_leak(F, F, F, F) { return 0; }
};

struct Integrate {
    static F charge(F v, F x, F, F) { return v + x; }
    static F at_v(F grad, F) { return grad; }
    static F at_x(F grad, F) { return grad; }
    static F at_leak(F, F, F, F) { return 0; }
};

struct Leak {
    static F charge(F v, F x, F v_reset, F leak) { return v + (x - (v - v_reset)) * leak; }
    static F at_v(F grad, F leak) { return grad - grad * leak; }
    static F at_x(F grad, F leak) { return grad * leak; }
    static F at_leak(F grad, F v, F x, F v_reset) { return grad * (x - (v - v_reset)); }
};

struct LeakOfMembrane {
    static F charge(F v, F x, F v_reset, F leak) { return v - (v - v_reset) * leak + x; }
    static F at_v(F grad, F leak) { return grad - grad * leak; }
    static F at_x(F grad, F) { return grad; }
    static F at_leak(F grad, F v, F, F v_reset) { return -grad * (v - v_reset); }
};

// What a gradient of the new v becomes: at s, at h, at the old v, at the threshold.

struct Hard {
    static F next(F, F h, F s, F, F v_reset, F) { return s > 0 ? v_reset : h; }
    static F at_s(F grad, F h, F, F v_reset) { return grad * (v_reset - h); }
    static F at_h(F grad, F s) { return grad * (1 - s); }
    static F at_v(F, F) { return 0; }
    static F at_threshold(F, F) { return 0; }
};

struct Soft {
    static F next(F, F h, F s, F threshold, F, F) { return h - s * threshold; }
    static F at_s(F grad, F, F threshold, F) { return -grad * threshold; }
    static F at_h(F grad, F) { return grad; }
    static F at_v(F, F) { return 0; }
    static F at_threshold(F grad, F s) { return -grad * s; }
};

struct Refractory {
    static F next(F v, F, F s, F threshold, F, F decay) { return decay * v - threshold * s; }
    static F at_s(F grad, F, F threshold, F) { return -grad * threshold; }
    static F at_h(F, F) { return 0; }
    static F at_v(F grad, F decay) { return decay * grad; }
    static F at_threshold(F grad, F s) { return -grad * s; }
};

struct Spikes {
    static F of(F excess) { return excess >= 0 ? F(1) : F(0); }
};

struct Signs {
    static F of(F excess) { return excess >= 0 ? F(1) : F(-1); }
};

// A stretch of the N values of a sample, with what belongs to their channels spread out beside them.
struct Stretch {
    Count width, channel[WIDTH];
    F threshold[WIDTH], scale[WIDTH], shift[WIDTH];

    Stretch(const Call &call, Count start) : width(std::min(WIDTH, call.channels * call.size - start)) {
        // c = along / inner % C; a division a value would cost as much as a pass
        const Count inner = call.channels_last ? 1 : call.size;
        Count c = start / inner % call.channels, position = start % inner;
        for (Count k = 0; k < width; ++k) {
            channel[k] = c;
            if (++position == inner) position = 0, ++c;
            if (c == call.channels) c = 0;
        }
        if (call.num_thresholds == 1) std::fill_n(threshold, width, *call.threshold);
        else spread(call.threshold, threshold);
        if (call.statistics) {
            spread(call.statistics, scale);
            spread(call.statistics + call.channels, shift);
        }
    }

    void spread(const F *values_C, F *along) const {
        for (Count k = 0; k < width; ++k) along[k] = values_C[channel[k]];
    }
};

// The membranes h of one step from those before, and v behind them.
template <bool normed>
void charge(const Call &call, const Stretch &at, const Stored *x, F *v, F *h) {
    const F v_reset = F(call.v_reset), leak = F(call.leak), decay = F(call.decay);
    for (Count k = 0; k < at.width; ++k) {
        const F input = normed ? F(x[k]) * at.scale[k] + at.shift[k] : F(x[k]);
        h[k] = DYNAMICS::charge(v[k], input, v_reset, leak);
        v[k] = RESET::next(v[k], h[k], Spikes::of(h[k] - at.threshold[k]), at.threshold[k], v_reset, decay);
    }
}

template <bool normed>
void fire(const Call &call) {
    const Count N = call.channels * call.size;
    F v[WIDTH], h[WIDTH];
    for (Count start = 0; start < N; start += WIDTH) {
        const Stretch at(call, start);
        for (Count b = 0; b < call.batch; ++b) {
            std::fill_n(v, at.width, F(call.rest));
            for (Count t = 0; t < call.num_steps; ++t) {
                const Count offset = (t * call.batch + b) * N + start;
                charge<normed>(call, at, call.x + offset, v, h);
                Stored *s = call.s + offset;
                for (Count k = 0; k < at.width; ++k) s[k] = Stored(EMITS::of(h[k] - at.threshold[k]));
            }
        }
    }
}

// What is summed over a stretch's samples and steps, and over its channels' positions when it ends.
struct Sum {
    F values[WIDTH] = {};

    void end(const Stretch &at, std::vector<double> &total_C) {
        for (Count k = 0; k < at.width; ++k) total_C[at.channel[k]] += values[k];
        std::fill_n(values, at.width, F(0));
    }
};

F total(const std::vector<double> &values) {
    return F(std::accumulate(values.begin(), values.end(), 0.0));
}

template <bool normed>
void back(const Call &call) {
    const Count N = call.channels * call.size, C = call.channels;
    const F v_reset = F(call.v_reset), leak = F(call.leak), decay = F(call.decay);
    std::vector<F> h_T(call.num_steps * WIDTH), v_T(call.num_steps * WIDTH);
    std::vector<double> threshold_C(C), leak_C(C), bias_C(C), gain_C(C);
    F v[WIDTH], grad_v[WIDTH], mean[WIDTH], inverse_sd[WIDTH];
    for (Count start = 0; start < N; start += WIDTH) {
        const Stretch at(call, start);
        Sum by_threshold, by_leak, by_bias, by_gain;
        if (normed) {
            at.spread(call.statistics + 2 * C, mean);
            at.spread(call.statistics + 3 * C, inverse_sd);
        }
        for (Count b = 0; b < call.batch; ++b) {
            std::fill_n(v, at.width, F(call.rest));
            std::fill_n(grad_v, at.width, F(0));
            for (Count t = 0; t < call.num_steps; ++t) {
                if (LEARNS_LEAK) std::copy_n(v, at.width, v_T.data() + t * WIDTH);
                charge<normed>(call, at, call.x + (t * call.batch + b) * N + start, v, h_T.data() + t * WIDTH);
            }
            for (Count t = call.num_steps - 1; t >= 0; --t) {
                const Count offset = (t * call.batch + b) * N + start;
                const Stored *x = call.x + offset, *grad_s = call.grad_s + offset;
                const F *h = h_T.data() + t * WIDTH, *v_before = v_T.data() + t * WIDTH;
                Stored *grad_x = call.grad_x + offset;
                for (Count k = 0; k < at.width; ++k) {
                    const F excess = h[k] - at.threshold[k], s = Spikes::of(excess);
                    const F reset = DETACHED ? F(0) : RESET::at_s(grad_v[k], h[k], at.threshold[k], v_reset);
                    const F grad_excess = (F(grad_s[k]) + reset) * surrogate(excess, call);
                    const F grad_h = grad_excess + RESET::at_h(grad_v[k], s);
                    const F grad_input = DYNAMICS::at_x(grad_h, leak);
                    if (LEARNS_THRESHOLD) by_threshold.values[k] += RESET::at_threshold(grad_v[k], s) - grad_excess;
                    if (LEARNS_LEAK) {
                        const F input = normed ? F(x[k]) * at.scale[k] + at.shift[k] : F(x[k]);
                        by_leak.values[k] += DYNAMICS::at_leak(grad_h, v_before[k], input, v_reset);
                    }
                    if (normed) {
                        by_bias.values[k] += grad_input;
                        by_gain.values[k] += grad_input * ((F(x[k]) - mean[k]) * inverse_sd[k]);
                    }
                    grad_v[k] = RESET::at_v(grad_v[k], decay) + DYNAMICS::at_v(grad_h, leak);
                    grad_x[k] = Stored(grad_input);
                }
            }
            if (b % ROWS == ROWS - 1 || b == call.batch - 1) {
                if (LEARNS_THRESHOLD) by_threshold.end(at, threshold_C);
                if (LEARNS_LEAK) by_leak.end(at, leak_C);
                if (normed) by_bias.end(at, bias_C), by_gain.end(at, gain_C);
            }
        }
    }
    if (LEARNS_THRESHOLD && call.num_thresholds == 1) *call.grad_threshold = total(threshold_C);
    if (LEARNS_THRESHOLD && call.num_thresholds > 1) std::copy_n(threshold_C.begin(), C, call.grad_threshold);
    if (LEARNS_LEAK) *call.grad_leak = total(leak_C);
    if (!normed) return;
    std::copy(bias_C.begin(), bias_C.end(), call.grad_bias);
    std::copy(gain_C.begin(), gain_C.end(), call.grad_gain);
    // through the statistics: scale (grad - mean(grad) - x_hat mean(grad x_hat)) = scale grad + slope x + offset
    const double values = double(call.num_steps * call.batch * call.size);
    std::vector<F> slope_C(C), offset_C(C);
    for (Count c = 0; c < C; ++c) {
        const F *scale = call.statistics + c;
        slope_C[c] = F(-double(scale[0]) * scale[3 * C] * gain_C[c] / values);
        offset_C[c] = F(-scale[0] * bias_C[c] / values - double(slope_C[c]) * scale[2 * C]);
    }
    F slope[WIDTH], offset[WIDTH];
    for (Count start = 0; start < N; start += WIDTH) {
        const Stretch at(call, start);
        at.spread(slope_C.data(), slope);
        at.spread(offset_C.data(), offset);
        for (Count row = 0; row < call.num_steps * call.batch; ++row) {
            const Stored *x = call.x + row * N + start;
            Stored *grad_x = call.grad_x + row * N + start;
            for (Count k = 0; k < at.width; ++k) grad_x[k] = Stored(at.scale[k] * F(grad_x[k]) + slope[k] * F(x[k]) + offset[k]);
        }
    }
}

// Mean and variance of each channel, from the distances to one of its values, so that nothing large cancels.
void take_statistics(const Call &call) {
    const Count N = call.channels * call.size, C = call.channels, rows = call.num_steps * call.batch;
    std::vector<F> pivot_C(C);
    std::vector<double> first_C(C), second_C(C);
    for (Count c = 0; c < C; ++c) pivot_C[c] = F(call.x[call.channels_last ? c : c * call.size]);
    F pivot[WIDTH];
    for (Count start = 0; start < N; start += WIDTH) {
        const Stretch at(call, start);
        Sum first, second;
        at.spread(pivot_C.data(), pivot);
        for (Count row = 0; row < rows; ++row) {
            const Stored *x = call.x + row * N + start;
            for (Count k = 0; k < at.width; ++k) {
                const F distance = F(x[k]) - pivot[k];
                first.values[k] += distance;
                second.values[k] += distance * distance;
            }
            if (row % ROWS == ROWS - 1 || row == rows - 1) first.end(at, first_C), second.end(at, second_C);
        }
    }
    const double values = double(rows * call.size);
    for (Count c = 0; c < C; ++c) {
        const double from_pivot = first_C[c] / values, mean = pivot_C[c] + from_pivot;
        const double var = std::max(0.0, second_C[c] / values - from_pivot * from_pivot);
        const double inverse_sd = 1 / std::sqrt(var + call.eps), scale = call.gain[c] * inverse_sd;
        F *of_channel = call.statistics + c;
        of_channel[0] = F(scale);
        of_channel[C] = F(call.bias[c] - mean * scale);
        of_channel[2 * C] = F(mean);
        of_channel[3 * C] = F(inverse_sd);
        call.running_mean[c] += F(call.momentum * (mean - call.running_mean[c]));
        call.running_var[c] += F(call.momentum * (var * values / (values - 1) - call.running_var[c]));
    }
}

}  // namespace

extern "C" void forward(const Call *call) {
    if (!call->statistics) return fire<false>(*call);
    take_statistics(*call);
    fire<true>(*call);
}

extern "C" void backward(const Call *call) { call->statistics ? back<true>(*call) : back<false>(*call); }
