// Norm, neuron and surrogate in one pass over the data, forward and backward, on any number of threads.
//
// The compiler is given a single case (forms.py):
//
//     DYNAMICS  Memoryless, Integrate, Leak, LeakOfMembrane, Decay          h of v and x
//     RESET     Hard, Soft, Refractory                                      v of h and the level
//     EMITS     Spikes, Signs, Ternary, Passed, Rounded, Quantized          the level of h, and s of it
//     LEVELS    the highest level
//     SURROGATE an expression in y, alpha and beta                          peak k(y), y = (h - threshold) / width
//     DETACHED, LEARNS_THRESHOLD, LEARNS_LEAK                   true or false
//     FOLDED    true or false: a norm is folded in, there is no backward, and the level is that of
//               factor (h - fires_at) + shift, beside theta; these, its reset and a constant in front of it are per
//               channel
//     REAL, STORED                                              see stretches.h
//
// Shapes: x, s [T, B, C, S], S all positions of a channel. The neurons' forward equals torch's.

#include "stretches.h"

namespace {

// The arguments of a pass; build.py has the same.
struct Call : Shape {
    Count num_thresholds;  // one, or one per channel
    double rest, v_reset, leak, decay, peak, width, alpha, beta, eps, momentum;
    const Stored *x;
    const F *threshold, *gain, *bias;
    F *running_mean, *running_var;
    F *statistics;  // scale, shift, mean and 1 / sd of each channel, where there is a norm; else null
    Stored *s;
    const Stored *grad_s;
    Stored *grad_x;
    F *grad_threshold, *grad_leak, *grad_gain, *grad_bias;
    const F *factor, *fires_at, *shift, *theta, *resets_to, *constant;  // of each channel, where a norm is folded in
    // what fires, 16 values in a word, in the order of memory; of whole words, and s need not be written beside it
    std::uint16_t *bits;
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
    const F y = excess * F(1 / call.width), alpha = F(call.alpha), beta = F(call.beta);
    (void)alpha, (void)beta;
    return F(call.peak) * F(SURROGATE);
}

// The gradient of h, propagated back to v, x and the leak.

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

struct Decay {  // leak is the time constant here: dividing rounds as torch does
    static F charge(F v, F x, F, F leak) { return v - v / leak + x; }
    static F at_v(F grad, F leak) { return grad - grad / leak; }
    static F at_x(F grad, F) { return grad; }
    static F at_leak(F, F, F, F) { return 0; }
};

// The gradient of the new v, propagated back to s, h, the old v and the threshold. A reset is odd where a level of -1
// moves v the other way.

struct Hard {
    static constexpr bool odd = false;
    static F next(F, F h, F s, F, F v_reset, F) { return s != 0 ? v_reset : h; }
    static F at_s(F grad, F h, F, F v_reset) { return grad * (v_reset - h); }
    static F at_h(F grad, F s) { return grad * (1 - absolute(s)); }
    static F at_v(F, F) { return 0; }
    static F at_threshold(F, F) { return 0; }
};

struct Soft {
    static constexpr bool odd = true;
    static F next(F, F h, F s, F threshold, F, F) { return h - s * threshold; }
    static F at_s(F grad, F, F threshold, F) { return -grad * threshold; }
    static F at_h(F grad, F) { return grad; }
    static F at_v(F, F) { return 0; }
    static F at_threshold(F grad, F s) { return -grad * s; }
};

struct Refractory {
    static constexpr bool odd = true;
    static F next(F v, F, F s, F threshold, F, F decay) { return decay * v - threshold * s; }
    static F at_s(F grad, F, F threshold, F) { return -grad * threshold; }
    static F at_h(F, F) { return 0; }
    static F at_v(F grad, F decay) { return decay * grad; }
    static F at_threshold(F grad, F s) { return -grad * s; }
};

// The gradients of h and of the threshold.
struct Gradients {
    F at_h, at_threshold;
};

// The level of h, s of a level, and from the gradients of s and of the reset's level those of h and the threshold.

struct Spikes {
    static F level(F h, F threshold) { return h - threshold >= 0 ? F(1) : F(0); }
    static F of(F level, F) { return level; }
    static Gradients back(F grad, F reset, F h, F threshold, const Call &call) {
        const F at_h = (grad + reset) * surrogate(h - threshold, call);
        return {at_h, -at_h};
    }
};

struct Signs : Spikes {
    static F of(F level, F) { return 2 * level - 1; }
};

struct Ternary {  // above - below
    static F level(F h, F threshold) {
        return (h - threshold >= 0 ? F(1) : F(0)) - (-h - threshold >= 0 ? F(1) : F(0));
    }
    static F of(F level, F) { return level; }
    static Gradients back(F grad, F reset, F h, F threshold, const Call &call) {
        const F above = (grad + reset) * surrogate(h - threshold, call);
        const F below = ((RESET::odd ? -reset : reset) - grad) * surrogate(-h - threshold, call);
        return {above - below, -above - below};
    }
};

struct Passed {  // how many multiples of the threshold
    static F level(F h, F threshold) {
        F level = 0;
#pragma GCC unroll 16
        for (int k = 1; k <= LEVELS; ++k) level += h - F(k) * threshold >= 0 ? F(1) : F(0);
        return level;
    }
    static F of(F level, F threshold) { return threshold * level; }
    static Gradients back(F grad, F, F h, F threshold, const Call &call) {
        F each = 0, times_k = 0;
#pragma GCC unroll 16
        for (int k = 1; k <= LEVELS; ++k) {
            const F of_k = surrogate(h - F(k) * threshold, call);
            each += of_k;
            times_k += F(k) * of_k;
        }
        return {grad * threshold * each, grad * (level(h, threshold) - threshold * times_k)};
    }
};

struct Rounded {  // the nearest multiple of the threshold, and straight through
    static F level(F h, F threshold) {
        F y = h / threshold;
        y = y < 0 ? F(0) : y;
        y = y > F(LEVELS) ? F(LEVELS) : y;
        return std::floor(y + F(0.5));
    }
    static F of(F level, F) { return level; }
    static F inside(F y) { return y >= 0 && y <= F(LEVELS) ? F(1) : F(0); }
    static Gradients back(F grad, F reset, F h, F threshold, const Call &) {
        const F y = h / threshold, at_y = (grad + reset) * inside(y) / threshold;
        return {at_y, -at_y * y};
    }
};

struct Quantized : Rounded {  // in units of the threshold
    static F of(F level, F threshold) { return threshold * level; }
    static Gradients back(F grad, F, F h, F threshold, const Call &) {
        const F y = h / threshold, within = inside(y);
        return {grad * within, grad * (level(h, threshold) - within * y)};
    }
};

constexpr bool FIRES_ONCE = std::is_base_of<Spikes, EMITS>::value;  // then shift and theta are 0

Spread thresholds(const Call &call) {
    return call.num_thresholds == 1 ? Spread(*call.threshold) : Spread(call, call.threshold);
}

// One of the rows of the statistics.
Spread statistic(const Call &call, Count row) {
    return call.statistics ? Spread(call, call.statistics + row * call.channels) : Spread(F(0));
}

// What a norm that is folded in leaves, of a stretch.
struct Folded {
    const F *factor, *fires_at, *shift, *theta, *resets_to, *constant;

    F level(F h, F threshold, Count k) const {
        if (!FOLDED) return EMITS::level(h, threshold);
        const F seen = factor[k] * (h - fires_at[k]);
        return FIRES_ONCE ? EMITS::level(seen, 0) : EMITS::level(seen + shift[k], theta[k]);
    }
};

// The same of all values of a sample.
struct FoldedSample {
    Spread factor, fires_at, shift, theta, resets_to, constant;

    explicit FoldedSample(const Call &call) {
        if (!FOLDED) return;
        factor = Spread(call, call.factor), fires_at = Spread(call, call.fires_at);
        shift = Spread(call, call.shift), theta = Spread(call, call.theta);
        resets_to = Spread(call, call.resets_to), constant = Spread(call, call.constant);
    }

    Folded from(Count start) const {
        if (!FOLDED) return {};
        return {&factor[start], &fires_at[start], &shift[start], &theta[start], &resets_to[start], &constant[start]};
    }
};

// The membranes h of one step of a stretch from those before, and v behind them.
template <bool normed>
void charge(
    const Call &call, Count width, const F *threshold, const F *scale, const F *shift, const Folded &folded,
    const Stored *x, F *__restrict v, F *__restrict h
) {
    const F leak = F(call.leak), decay = F(call.decay);
    for (Count k = 0; k < width; ++k) {
        const F v_reset = FOLDED ? folded.resets_to[k] : F(call.v_reset);
        const F given = FOLDED ? F(x[k]) + folded.constant[k] : F(x[k]);
        const F input = normed ? given * scale[k] + shift[k] : given;
        h[k] = DYNAMICS::charge(v[k], input, v_reset, leak);
        const F level = folded.level(h[k], threshold[k], k);
        v[k] = RESET::next(v[k], h[k], level, threshold[k], v_reset, decay);
    }
}

// The word of 16 levels: which are not 0.
template <typename Level>
std::uint16_t word_of(const Level *level) {
#ifdef __AVX2__
    if constexpr (std::is_same_v<Level, float>) {
        const __m256 zero = _mm256_setzero_ps(), low = _mm256_loadu_ps(level), high = _mm256_loadu_ps(level + 8);
        return std::uint16_t(_mm256_movemask_ps(_mm256_cmp_ps(low, zero, _CMP_NEQ_UQ)) |
                             _mm256_movemask_ps(_mm256_cmp_ps(high, zero, _CMP_NEQ_UQ)) << 8);
    }
#endif
    unsigned word = 0;
    for (int k = 0; k < 16; ++k) word |= unsigned(F(level[k]) != 0) << k;
    return std::uint16_t(word);
}

template <bool normed>
void fire(const Call &call) {
    const auto threshold_N = thresholds(call);
    const auto scale_N = statistic(call, 0), shift_N = statistic(call, 1);
    const FoldedSample folded_N(call);
    const Count N = call.sample();
    const bool past_caches = goes_past_the_caches(call);
    in_blocks_of_samples(call, [&](Count from, Count until, Count start, Count width) {
        const F *threshold = &threshold_N[start], *scale = &scale_N[start], *shift = &shift_N[start];
        const Folded folded = folded_N.from(start);
        F v[WIDTH], h[WIDTH];
        alignas(64) Stored row[WIDTH];
        for (Count b = from; b < until; ++b) {
            std::fill_n(v, width, F(call.rest));
            if (FOLDED) std::copy_n(folded.resets_to, width, v);
            for (Count t = 0; t < call.num_steps; ++t) {
                const Count offset = (t * call.batch + b) * N + start;
                read_ahead(call.x + offset + width, width);
                if (!past_caches) write_ahead(call.s + offset + width, width);
                charge<normed>(call, width, threshold, scale, shift, folded, call.x + offset, v, h);
                Stored *__restrict s = past_caches ? row : call.s + offset;
                for (Count k = 0; k < width; ++k)
                    s[k] = Stored(EMITS::of(folded.level(h[k], threshold[k], k), threshold[k]));
                for (Count k = 0; call.bits && k < width; k += 16) call.bits[(offset + k) / 16] = word_of(s + k);
                if (past_caches) put_past_the_caches(call.s + offset, row, width);
            }
        }
    }, nothing);
}

// As fire, and nothing but bits; 16 values go through all steps at once.
void fire_bits(const Call &call) {
    const auto threshold_N = thresholds(call);
    const FoldedSample folded_N(call);
    const Count N = call.sample(), step = call.batch * N;
    const F leak = F(call.leak), decay = F(call.decay);
    const Count together = std::max(Count(1), ROWS_TOGETHER / call.num_steps);
    in_blocks(call.threads, call.batch, together, N, WIDTH, [&](Count from, Count until, Count start, Count width) {
        const F *threshold = &threshold_N[start];
        const Folded folded = folded_N.from(start);
        for (Count b = from; b < until; ++b) {
            for (Count t = 0; t < call.num_steps; ++t) read_ahead(call.x + t * step + b * N + start + width, width);
            for (Count first = 0; first < width; first += 16) {
                const Stored *x = call.x + b * N + start + first;
                std::uint16_t *bits = call.bits + (b * N + start + first) / 16;
                F v[16], level[16];
                for (int k = 0; k < 16; ++k) v[k] = FOLDED ? folded.resets_to[first + k] : F(call.rest);
                for (Count t = 0; t < call.num_steps; ++t, x += step, bits += step / 16) {
#pragma GCC unroll 1  // vectorized, and not unrolled before
                    for (int k = 0; k < 16; ++k) {
                        const Count at = first + k;
                        const F v_reset = FOLDED ? folded.resets_to[at] : F(call.v_reset);
                        const F input = FOLDED ? F(x[k]) + folded.constant[at] : F(x[k]);
                        const F h = DYNAMICS::charge(v[k], input, v_reset, leak);
                        level[k] = folded.level(h, threshold[at], at);
                        v[k] = RESET::next(v[k], h, level[k], threshold[at], v_reset, decay);
                    }
                    *bits = word_of(level);
                }
            }
        }
    }, nothing);
}

template <bool normed>
void back(const Call &call) {
    const auto threshold_N = thresholds(call);
    const auto scale_N = statistic(call, 0), shift_N = statistic(call, 1);
    const auto mean_N = statistic(call, 2), inverse_sd_N = statistic(call, 3);
    const Count N = call.sample(), C = call.channels;
    const F v_reset = F(call.v_reset), leak = F(call.leak), decay = F(call.decay);
    const bool past_caches = !normed && goes_past_the_caches(call);
    Sum by_threshold(call, LEARNS_THRESHOLD), by_leak(call, LEARNS_LEAK), by_bias(call, normed), by_gain(call, normed);
    in_blocks_of_samples(call, [&](Count from, Count until, Count start, Count width) {
        const F *threshold = &threshold_N[start], *scale = &scale_N[start], *shift = &shift_N[start];
        const F *mean = &mean_N[start], *inverse_sd = &inverse_sd_N[start];
        F v[WIDTH], grad_v[WIDTH], at_threshold[WIDTH], at_leak[WIDTH], at_bias[WIDTH], at_gain[WIDTH];
        alignas(64) Stored row[WIDTH];
        F *h_T = scratch<0>(call.num_steps * WIDTH), *v_T = scratch<1>(call.num_steps * WIDTH);
        const Call own = call;  // the compiler need not fear that a write changes its numbers
        by_threshold.read(start, width, at_threshold), by_leak.read(start, width, at_leak);
        by_bias.read(start, width, at_bias), by_gain.read(start, width, at_gain);
        for (Count b = from; b < until; ++b) {
            std::fill_n(v, width, F(call.rest));
            std::fill_n(grad_v, width, F(0));
            for (Count t = 0; t < call.num_steps; ++t) {
                if (LEARNS_LEAK) std::copy_n(v, width, &v_T[t * width]);
                const Stored *x = call.x + (t * call.batch + b) * N + start;
                read_ahead(x + width, width);
                read_ahead(call.grad_s + (t * call.batch + b) * N + start + width, width);
                write_ahead(call.grad_x + (t * call.batch + b) * N + start + width, width);
                charge<normed>(call, width, threshold, scale, shift, Folded{}, x, v, &h_T[t * width]);
            }
            for (Count t = call.num_steps - 1; t >= 0; --t) {
                const Count offset = (t * call.batch + b) * N + start;
                const Stored *x = call.x + offset, *grad_s = call.grad_s + offset;
                const F *h = &h_T[t * width], *v_before = &v_T[t * width];
                Stored *grad_x = past_caches ? row : call.grad_x + offset;
                for (Count k = 0; k < width; ++k) {
                    const F s = EMITS::level(h[k], threshold[k]);
                    const F reset = DETACHED ? F(0) : RESET::at_s(grad_v[k], h[k], threshold[k], v_reset);
                    const Gradients fired = EMITS::back(F(grad_s[k]), reset, h[k], threshold[k], own);
                    const F grad_h = fired.at_h + RESET::at_h(grad_v[k], s);
                    const F grad_input = DYNAMICS::at_x(grad_h, leak);
                    if (LEARNS_THRESHOLD) at_threshold[k] += RESET::at_threshold(grad_v[k], s) + fired.at_threshold;
                    if (LEARNS_LEAK) {
                        const F input = normed ? F(x[k]) * scale[k] + shift[k] : F(x[k]);
                        at_leak[k] += DYNAMICS::at_leak(grad_h, v_before[k], input, v_reset);
                    }
                    if (normed) {
                        at_bias[k] += grad_input;
                        at_gain[k] += grad_input * ((F(x[k]) - mean[k]) * inverse_sd[k]);
                    }
                    grad_v[k] = RESET::at_v(grad_v[k], decay) + DYNAMICS::at_v(grad_h, leak);
                    grad_x[k] = Stored(grad_input);
                }
                if (past_caches) put_past_the_caches(call.grad_x + offset, row, width);
            }
        }
        by_threshold.write(start, width, at_threshold), by_leak.write(start, width, at_leak);
        by_bias.write(start, width, at_bias), by_gain.write(start, width, at_gain);
    }, [&] {
        for (Sum *sum : {&by_threshold, &by_leak, &by_bias, &by_gain}) sum->end();
    });
    if (LEARNS_THRESHOLD && call.num_thresholds == 1) *call.grad_threshold = by_threshold.total();
    if (LEARNS_THRESHOLD && call.num_thresholds > 1) std::copy_n(by_threshold.total_C.begin(), C, call.grad_threshold);
    if (LEARNS_LEAK) *call.grad_leak = by_leak.total();
    if (!normed) return;
    std::copy(by_bias.total_C.begin(), by_bias.total_C.end(), call.grad_bias);
    std::copy(by_gain.total_C.begin(), by_gain.total_C.end(), call.grad_gain);
    // through the statistics: scale (grad - mean(grad) - x_hat mean(grad x_hat)) = scale grad + slope x + offset
    const double values = double(call.rows() * call.size);
    std::vector<F> slope_C(C), offset_C(C);
    for (Count c = 0; c < C; ++c) {
        const F *of_channel = call.statistics + c;
        slope_C[c] = F(-double(of_channel[0]) * of_channel[3 * C] * by_gain.total_C[c] / values);
        offset_C[c] = F(-of_channel[0] * by_bias.total_C[c] / values - double(slope_C[c]) * of_channel[2 * C]);
    }
    const Spread slope_N(call, slope_C.data()), offset_N(call, offset_C.data());
    const Count rows = call.rows();
    in_blocks(call.threads, rows, ROWS_TOGETHER, N, WIDTH, [&](Count from, Count until, Count start, Count width) {
        const F *scale = &scale_N[start], *slope = &slope_N[start], *offset = &offset_N[start];
        for (Count row = from; row < until; ++row) {
            const Stored *x = call.x + row * N + start;
            Stored *grad_x = call.grad_x + row * N + start;
            read_ahead(x + width, width);
            write_ahead(grad_x + width, width);
            for (Count k = 0; k < width; ++k)
                grad_x[k] = Stored(scale[k] * F(grad_x[k]) + slope[k] * F(x[k]) + offset[k]);
        }
    }, nothing);
}

// Mean and variance of each channel, from the distances to one of its values, so that nothing large cancels.
void take_statistics(const Call &call) {
    const Count N = call.sample(), C = call.channels, rows = call.rows();
    std::vector<F> pivot_C(C);
    for (Count c = 0; c < C; ++c) pivot_C[c] = F(call.x[call.channels_last ? c : c * call.size]);
    const Spread pivot_N(call, pivot_C.data());
    Sum first(call, true), second(call, true);
    in_blocks(call.threads, rows, ROWS_TOGETHER, N, WIDTH, [&](Count from, Count until, Count start, Count width) {
        const F *pivot = &pivot_N[start];
        F at_first[WIDTH], at_second[WIDTH];
        first.read(start, width, at_first), second.read(start, width, at_second);
        for (Count row = from; row < until; ++row) {
            const Stored *x = call.x + row * N + start;
            read_ahead(x + width, width);
            for (Count k = 0; k < width; ++k) {
                const F distance = F(x[k]) - pivot[k];
                at_first[k] += distance;
                at_second[k] += distance * distance;
            }
        }
        first.write(start, width, at_first), second.write(start, width, at_second);
    }, [&] { first.end(), second.end(); });
    const double values = double(rows * call.size);
    for (Count c = 0; c < C; ++c) {
        const double from_pivot = first.total_C[c] / values, mean = pivot_C[c] + from_pivot;
        const double var = std::max(0.0, second.total_C[c] / values - from_pivot * from_pivot);
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
    if (call->statistics) {
        take_statistics(*call);
        fire<true>(*call);
    } else if (!call->s) {
        fire_bits(*call);
    } else {
        fire<false>(*call);
    }
}

extern "C" void backward(const Call *call) {
    call->statistics ? back<true>(*call) : back<false>(*call);
}
