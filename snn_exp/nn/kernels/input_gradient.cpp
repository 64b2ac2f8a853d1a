// The gradient of the input of a 3 x 3 convolution, padded by 1, in float, for AVX-512 or AVX2; on any number of threads.
//
//     FORM      512 or 256; what the compiler's target has unless given
//
// Shapes: N images, C channels of the input, O of the output, both whole lanes, H W space, H' W' that of the output. All
// tensors lie by position (channels last).
//
//     dL/dx[i] = sum_k dL/dy[(i + 1 - k) / stride] W[k],  i + 1 - k a multiple of the stride
//
// Stride 1: 2 x 2 positions at a time from 4 x 4 gradients, by 16 products per pair of channels and not 36: F(2 x 2, 3 x 3)
// of Lavin and Gray 2016. Stride 2: a position has 1, 2 or 4 taps, depending on which of its coordinates are odd, and those
// with the same taps are taken together. Either way many positions are multiplied by the same weights, which a core loads
// once for a few of them, whose sums stay in registers.
//
// No sum depends on the number of threads or on the width of the machine's vectors.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <memory>
#ifndef FORM
#if defined(__AVX512F__)
#define FORM 512
#else
#define FORM 256
#endif
#endif

namespace {

using Count = std::int64_t;

constexpr Count LANE = 16, TAPS = 9, PRODUCTS = 16;
constexpr Count WIDEST = FORM == 512 ? 4 : 1;          // lanes whose sums are in registers at once
constexpr Count TOGETHER = 24;                         // tiles that go through one pass
typedef float Lane __attribute__((vector_size(64)));

// The arguments; build.py has the same.
struct Call {
    Count images, in_channels, out_channels, height, width, stride, out_height, out_width, threads;
    Count weight_strides[4];  // of [O, C, 3, 3], in values
    const float *weight, *grad_y;
    float *grad_x;

    Count in_lanes() const { return in_channels / LANE; }
    Count out_lanes() const { return out_channels / LANE; }
};

struct Free {
    void operator()(void *memory) const { std::free(memory); }
};

struct Lanes {
    std::unique_ptr<Lane[], Free> memory;

    explicit Lanes(Count size) : memory(static_cast<Lane *>(std::aligned_alloc(64, size * 64))) {}
    Lane *get() const { return memory.get(); }
};

Lane load(const float *at) {
    Lane lane;
    std::memcpy(&lane, at, 64);
    return lane;
}

void store(float *at, const Lane &lane) {
    std::memcpy(at, &lane, 64);
}

// ---- sums of products ---------------------------------------------------------------------------

#if FORM == 512
using Register = __m512;
inline Register filled(float value) { return _mm512_set1_ps(value); }
inline Register loaded(const float *at) { return _mm512_loadu_ps(at); }
inline void stored(float *at, Register value) { _mm512_storeu_ps(at, value); }
inline Register sum(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
#else
using Register = __m256;
inline Register filled(float value) { return _mm256_set1_ps(value); }
inline Register loaded(const float *at) { return _mm256_loadu_ps(at); }
inline void stored(float *at, Register value) { _mm256_storeu_ps(at, value); }
inline Register sum(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
#endif
constexpr Count OF_A_REGISTER = sizeof(Register) / 4, OF_A_LANE = 64 / sizeof(Register);

// Values side by side, and those of the next position.
struct Rows {
    float *at;
    Count pitch;

    float *operator[](Count p) const { return at + p * pitch; }
};

// to[p] (+)= sum_o from[p][o] weights[o], of ROWS positions and some lanes of channels
template <Count ROWS, Count V>
void products(Rows from, Count depth, Rows weights, Rows to, bool adds) {
    constexpr Count R = V * OF_A_LANE;
    Register held[ROWS][R];
#pragma GCC unroll 16
    for (Count p = 0; p < ROWS; ++p)
#pragma GCC unroll 8
        for (Count r = 0; r < R; ++r) held[p][r] = adds ? loaded(to[p] + r * OF_A_REGISTER) : filled(0);
    for (Count o = 0; o < depth; ++o, ++from.at, weights.at += weights.pitch) {
        Register row[R];
#pragma GCC unroll 8
        for (Count r = 0; r < R; ++r) row[r] = loaded(weights.at + r * OF_A_REGISTER);
#pragma GCC unroll 16
        for (Count p = 0; p < ROWS; ++p) {
            const Register given = filled(*from[p]);
#pragma GCC unroll 8
            for (Count r = 0; r < R; ++r) held[p][r] = sum(given, row[r], held[p][r]);
        }
    }
#pragma GCC unroll 16
    for (Count p = 0; p < ROWS; ++p)
#pragma GCC unroll 8
        for (Count r = 0; r < R; ++r) stored(to[p] + r * OF_A_REGISTER, held[p][r]);
}

constexpr Count rows_of(Count lanes) {
    return FORM == 256 || lanes == 4 ? 6 : lanes == 1 ? 12 : 8;
}

template <Count V>
void products_of_some(Rows from, Count number, Count depth, Rows weights, Rows to, bool adds) {
    constexpr Count ROWS = rows_of(V);
    Count p = 0;
    const auto next = [](Rows rows, Count p) { return Rows{rows[p], rows.pitch}; };
    for (; p + ROWS <= number; p += ROWS) products<ROWS, V>(next(from, p), depth, weights, next(to, p), adds);
    for (; p + 2 <= number; p += 2) products<2, V>(next(from, p), depth, weights, next(to, p), adds);
    for (; p < number; ++p) products<1, V>(next(from, p), depth, weights, next(to, p), adds);
}

// The same of all channels: to[p][c] (+)= sum_o from[p][o] weights[o][c]
void products_of_all(const Call &call, Rows from, Count number, Lane *weights, Rows to, bool adds) {
    for (Count first = 0; first < call.in_lanes(); first += WIDEST) {
        const Count wide = std::min(WIDEST, call.in_lanes() - first);
        const auto run = wide == 1   ? products_of_some<1>
#if FORM == 512
                         : wide == 2 ? products_of_some<2>
                         : wide == 3 ? products_of_some<3>
#endif
                                     : products_of_some<WIDEST>;
        const Rows by = {reinterpret_cast<float *>(weights + first), call.in_channels};
        run(from, number, call.out_channels, by, {to.at + first * LANE, to.pitch}, adds);
    }
}

Lane weight_lane(const Call &call, Count o, Count first, Count row, Count column) {
    const Count *strides = call.weight_strides;
    const float *at = call.weight + o * strides[0] + first * strides[1] + row * strides[2] + column * strides[3];
    if (strides[1] == 1) return load(at);
    Lane lane;
    for (Count c = 0; c < LANE; ++c) lane[c] = at[c * strides[1]];
    return lane;
}

// ---- stride 1 -----------------------------------------------------------------------------------

// G g G^T of the turned kernel: [16, O, C]
void transform_weights(const Call &call, Lane *to) {
    const Count O = call.out_channels, lanes = call.in_lanes(), apart = O * lanes;
    for (Count o = 0; o < O; ++o)
        for (Count v = 0; v < lanes; ++v) {
            Lane half[4][3];
            for (Count q = 0; q < 3; ++q) {
                const Lane a = weight_lane(call, o, v * LANE, 2, 2 - q), b = weight_lane(call, o, v * LANE, 1, 2 - q);
                const Lane c = weight_lane(call, o, v * LANE, 0, 2 - q);
                half[0][q] = a, half[1][q] = (a + c + b) * .5f, half[2][q] = (a + c - b) * .5f, half[3][q] = c;
            }
            for (Count r = 0; r < 4; ++r) {
                const Lane a = half[r][0], b = half[r][1], c = half[r][2];
                const Lane row[4] = {a, (a + c + b) * .5f, (a + c - b) * .5f, c};
                for (Count q = 0; q < 4; ++q) to[(r * 4 + q) * apart + o * lanes + v] = row[q];
            }
        }
}

struct Tile {
    Count n, y, x;  // its image and its first position
};

// B^T d B of the gradients around tiles side by side: to[k apart + tile]
void transform_gradients(const Call &call, const Tile &first, Count number, Lane *to, Count apart) {
    const Count O = call.out_channels, H = call.height, W = call.width, lanes = call.out_lanes();
    for (Count v = 0; v < lanes; ++v) {
        Lane half[4][4];
        const auto take_column = [&](Count q, Count x) {
            Lane d[4] = {};
            for (Count r = 0; r < 4; ++r) {
                const Count y = first.y - 1 + r;
                if (x >= 0 && x < W && y >= 0 && y < H)
                    d[r] = load(call.grad_y + ((first.n * H + y) * W + x) * O + v * LANE);
            }
            half[0][q] = d[0] - d[2], half[1][q] = d[1] + d[2], half[2][q] = d[2] - d[1], half[3][q] = d[1] - d[3];
        };
        take_column(2, first.x - 1), take_column(3, first.x);
        for (Count k = 0; k < number; ++k) {
            for (Count r = 0; r < 4; ++r) half[r][0] = half[r][2], half[r][1] = half[r][3];
            take_column(2, first.x + 2 * k + 1), take_column(3, first.x + 2 * k + 2);
            // of the tile below
            const float *below = call.grad_y + ((first.n * H + first.y + 3) * W + first.x + 2 * k) * O + v * LANE;
            __builtin_prefetch(below), __builtin_prefetch(below + O);
            __builtin_prefetch(below + W * O), __builtin_prefetch(below + (W + 1) * O);
            for (Count r = 0; r < 4; ++r) {
                const Lane *d = half[r];
                Lane *row = to + r * 4 * apart + k * lanes + v;
                row[0] = d[0] - d[2], row[apart] = d[1] + d[2];
                row[2 * apart] = d[2] - d[1], row[3 * apart] = d[1] - d[3];
            }
        }
    }
}

// A^T m A, into the tile
void transform_back(const Call &call, const Tile &tile, const Lane *from, Count apart) {
    const Count C = call.in_channels, H = call.height, W = call.width;
    const bool two_rows = tile.y + 1 < H, two_columns = tile.x + 1 < W;
    float *to = call.grad_x + ((tile.n * H + tile.y) * W + tile.x) * C;
    for (Count v = 0; v < call.in_lanes(); ++v) {
        Lane half[2][4];
        float *below = to + 2 * W * C + v * LANE;
        __builtin_prefetch(below, 1), __builtin_prefetch(below + C, 1);
        __builtin_prefetch(below + W * C, 1), __builtin_prefetch(below + (W + 1) * C, 1);
        for (Count q = 0; q < 4; ++q) {
            const Lane *m = from + q * apart + v;
            const Lane a = m[4 * apart], b = m[8 * apart];
            half[0][q] = m[0] + a + b, half[1][q] = a - b - m[12 * apart];
        }
        for (Count r = 0; r < (two_rows ? 2 : 1); ++r) {
            const Lane *m = half[r];
            store(to + r * W * C + v * LANE, m[0] + m[1] + m[2]);
            if (two_columns) store(to + (r * W + 1) * C + v * LANE, m[1] - m[2] - m[3]);
        }
    }
}

template <typename Work>
void in_parallel(Count number, Count threads, Work work) {
    const Count share = std::max(Count(1), std::min(threads, number));
#ifdef _OPENMP
#pragma omp parallel for num_threads(int(share)) schedule(static) if (share > 1)
#endif
    for (Count thread = 0; thread < share; ++thread) work(number * thread / share, number * (thread + 1) / share);
}

void by_tiles(const Call &call) {
    const Count rows = (call.height + 1) / 2, columns = (call.width + 1) / 2, number = call.images * rows * columns;
    const Count O = call.out_channels, lanes = call.in_lanes(), of_weights = O * lanes;
    const Lanes weights(PRODUCTS * of_weights);
    transform_weights(call, weights.get());
    in_parallel((number + TOGETHER - 1) / TOGETHER, call.threads, [&](Count block, Count until) {
        const Count given_apart = TOGETHER * call.out_lanes(), sums_apart = TOGETHER * lanes;
        const Lanes given(PRODUCTS * given_apart), sums(PRODUCTS * sums_apart);
        for (; block < until; ++block) {
            const Count first = block * TOGETHER, some = std::min(TOGETHER, number - first);
            const auto tile_at = [&](Count k) {
                const Count row = (first + k) / columns;
                return Tile{row / rows, row % rows * 2, (first + k) % columns * 2};
            };
            for (Count k = 0, run; k < some; k += run) {
                const Tile tile = tile_at(k);
                run = std::min(some - k, columns - tile.x / 2);
                transform_gradients(call, tile, run, given.get() + k * call.out_lanes(), given_apart);
            }
            for (Count m = 0; m < PRODUCTS; ++m) {
                const Rows from = {reinterpret_cast<float *>(given.get() + m * given_apart), O};
                const Rows to = {reinterpret_cast<float *>(sums.get() + m * sums_apart), call.in_channels};
                products_of_all(call, from, some, weights.get() + m * of_weights, to, false);
            }
            for (Count k = 0; k < some; ++k) transform_back(call, tile_at(k), sums.get() + k * lanes, sums_apart);
        }
    });
}

// ---- stride 2 -----------------------------------------------------------------------------------

void by_taps(const Call &call) {
    const Count O = call.out_channels, C = call.in_channels, W = call.width, lanes = call.in_lanes();
    const Lanes weights(TAPS * O * lanes);
    for (Count tap = 0; tap < TAPS; ++tap)
        for (Count o = 0; o < O; ++o)
            for (Count v = 0; v < lanes; ++v)
                weights.get()[(tap * O + o) * lanes + v] = weight_lane(call, o, v * LANE, tap / 3, tap % 3);
    in_parallel(call.images * call.height, call.threads, [&](Count row, Count until) {
        for (; row < until; ++row) {
            const Count n = row / call.height, y = row % call.height;
            for (Count odd = 0; odd < std::min(W, Count(2)); ++odd)
                // the last taps of row and column reach an output of every position
                for (Count r = y % 2 ? 2 : 1; r >= 0; r -= 2)
                    for (Count q = odd ? 2 : 1; q >= 0; q -= 2) {
                        const Count from_y = (y + 1 - r) / 2, from_x = (odd + 1 - q) / 2;
                        if (from_y >= call.out_height) continue;
                        const Count number = std::min((W - odd + 1) / 2, call.out_width - from_x);
                        const float *from = call.grad_y + ((n * call.out_height + from_y) * call.out_width + from_x) * O;
                        products_of_all(
                            call, {const_cast<float *>(from), O}, number, weights.get() + (r * 3 + q) * O * lanes,
                            {call.grad_x + (row * W + odd) * C, 2 * C}, r < (y % 2 ? 2 : 1) || q < (odd ? 2 : 1)
                        );
                    }
        }
    });
}

}  // namespace

extern "C" void backward(const Call *call) {
    call->stride == 1 ? by_tiles(*call) : by_taps(*call);
}
