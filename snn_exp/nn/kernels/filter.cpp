// Synapse and PSP norm in one pass over the data, forward and backward, on any number of threads.
//
// The compiler is given a single case (forms.py):
//
//     TRACE     Identity, Exponential, Alpha, DelayedAlpha      psp of s
//     REAL, STORED                                              see stretches.h
//
// Shapes: s, psp [T, B, C, S], S all positions of a channel.
//
//     psp_hat = psp / sqrt(m + eps), m = E[psp^2] of a channel, where there is a norm; else psp_hat = psp
//
// Nothing but s is kept for backward, which computes psp again.

#include "stretches.h"

namespace {

// The arguments of a pass; build.py has the same.
struct Call : Shape {
    double decay, gain, eps, momentum;
    const Stored *s;
    F *moment;  // the running one
    F *scale;   // 1 / sqrt(m + eps) of each channel, where there is a norm; else null
    Stored *psp;
    const Stored *grad_psp;
    Stored *grad_s;              // may be grad_psp
    const std::uint16_t *bits;   // the spikes, 16 values in a word, in the order of memory; then s is not read
    const F *slope;              // of each channel, if the gradient at psp is grad_psp + slope psp; else null
};

// psp of s and the traces p and q of earlier spikes; and back: the gradient at s of that at psp and of what later
// steps have left.

struct Identity {
    static F next(F &, F &, F s, F, F) { return s; }
    static F back(F &, F &, F grad, F, F) { return grad; }
};

struct Exponential {
    static F next(F &p, F &, F s, F decay, F) { return p = s + decay * p; }
    static F back(F &p, F &, F grad, F decay, F) { return p = grad + decay * p; }
};

struct Alpha {
    static F next(F &p, F &q, F s, F decay, F gain) {
        p = decay * p + s;
        q = decay * q + p;
        return gain * q;
    }
    static F back(F &p, F &q, F grad, F decay, F gain) {
        q = gain * grad + decay * q;
        return p = q + decay * p;
    }
};

struct DelayedAlpha {
    static F next(F &p, F &q, F s, F decay, F gain) {
        const F delayed = gain * q;
        p = decay * p + s;
        q = decay * q + p;
        return delayed;
    }
    static F back(F &p, F &q, F grad, F decay, F gain) {
        p = q + decay * p;
        q = gain * grad + decay * q;
        return p;
    }
};

// Loops over psp, step by step: work is given the step, the offset of its stretch, and psp there.
template <typename Work>
void for_each_step(const Call &call, Count b, Count start, Count width, Work work) {
    const F decay = F(call.decay), gain = F(call.gain);
    F p[WIDTH], q[WIDTH], psp[WIDTH], spikes[WIDTH];
    std::fill_n(p, width, F(0)), std::fill_n(q, width, F(0));
    for (Count t = 0; t < call.num_steps; ++t) {
        const Count offset = (t * call.batch + b) * call.sample() + start;
        if (call.bits) {
            const std::uint16_t *words = call.bits + offset / WORD;
            for (Count k = 0; k < width; k += WORD)
                for (Count bit = 0; bit < WORD; ++bit) spikes[k + bit] = F(int(words[k / WORD]) >> bit & 1);
            for (Count k = 0; k < width; ++k) psp[k] = TRACE::next(p[k], q[k], spikes[k], decay, gain);
        } else {
            const Stored *s = call.s + offset;
            for (Count k = 0; k < width; ++k) psp[k] = TRACE::next(p[k], q[k], F(s[k]), decay, gain);
        }
        work(t, offset, psp);
    }
}

// Per channel, the sum of psp times a second value: `other` gives its address, from an offset and psp.
template <typename Other>
std::vector<double> products(const Call &call, Other other) {
    Sum sum(call, true);
    in_blocks_of_samples(call, [&](Count from, Count until, Count start, Count width) {
        F at[WIDTH];
        sum.read(start, width, at);
        for (Count b = from; b < until; ++b)
            for_each_step(call, b, start, width, [&](Count, Count offset, const F *psp) {
                const auto *paired = other(offset, psp);
                for (Count k = 0; k < width; ++k) at[k] += psp[k] * F(paired[k]);
            });
        sum.write(start, width, at);
    }, [&] { sum.end(); });
    return sum.total_C;
}

Spread scales(const Call &call) {
    return call.scale ? Spread(call, call.scale) : Spread(F(1));
}

void take_moments(const Call &call) {
    const auto squares_C = products(call, [](Count, const F *psp) { return psp; });
    for (Count c = 0; c < call.channels; ++c) {
        const double moment = squares_C[c] / double(call.rows() * call.size);
        call.scale[c] = F(1 / std::sqrt(moment + call.eps));
        call.moment[c] = F(call.moment[c] + call.momentum * (moment - call.moment[c]));
    }
}

void filter(const Call &call) {
    if (call.scale) take_moments(call);
    const auto scale_N = scales(call);
    in_blocks_of_samples(call, [&](Count from, Count until, Count start, Count width) {
        const F *scale = &scale_N[start];
        for (Count b = from; b < until; ++b)
            for_each_step(call, b, start, width, [&](Count, Count offset, const F *psp) {
                Stored *to = call.psp + offset;
                for (Count k = 0; k < width; ++k) to[k] = Stored(psp[k] * scale[k]);
            });
    }, nothing);
}

void back(const Call &call) {
    const auto scale_N = scales(call);
    // through the moment: dL/dpsp = scale grad + slope psp, slope = -scale^3 mean(grad psp)
    std::vector<F> slope_C(call.channels);
    if (call.slope) {
        std::copy_n(call.slope, call.channels, slope_C.begin());
    } else if (call.scale) {
        const auto products_C = products(call, [&](Count at, const F *) { return call.grad_psp + at; });
        for (Count c = 0; c < call.channels; ++c) {
            const double scale = call.scale[c];
            slope_C[c] = F(-scale * scale * scale * products_C[c] / double(call.rows() * call.size));
        }
    }
    const Spread slope_N(call, slope_C.data());
    const F decay = F(call.decay), gain = F(call.gain);
    in_blocks_of_samples(call, [&](Count from, Count until, Count start, Count width) {
        const F *scale = &scale_N[start], *slope = &slope_N[start];
        F p[WIDTH], q[WIDTH];
        Stored row[WIDTH];
        F *psp_T = scratch<0>(call.num_steps * WIDTH);
        for (Count b = from; b < until; ++b) {
            for_each_step(call, b, start, width, [&](Count t, Count, const F *psp) {
                std::copy_n(psp, width, &psp_T[t * width]);
            });
            std::fill_n(p, width, F(0)), std::fill_n(q, width, F(0));
            for (Count t = call.num_steps - 1; t >= 0; --t) {
                const Count offset = (t * call.batch + b) * call.sample() + start;
                const Stored *grad_psp = call.grad_psp + offset;
                const F *psp = &psp_T[t * width];
                for (Count k = 0; k < width; ++k) {
                    const F grad = scale[k] * F(grad_psp[k]) + slope[k] * psp[k];
                    row[k] = Stored(TRACE::back(p[k], q[k], grad, decay, gain));
                }
                std::copy_n(row, width, call.grad_s + offset);
            }
        }
    }, nothing);
}

}  // namespace

extern "C" void forward(const Call *call) {
    filter(*call);
}

extern "C" void backward(const Call *call) {
    back(*call);
}
