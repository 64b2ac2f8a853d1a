// Shared by the passes: numbers, the order in which large tensors are gone through by several threads, sums per channel.
//
//     REAL      float or double: the type of the computation
//     STORED    the same, or Bfloat16: the type of the large tensors in memory
//
// The N = C S values of a sample lie side by side, by channel or (channels_last) by position, and are taken in
// stretches, whose state stays in the first cache. No sum depends on the width of the machine's vectors, and no product
// and sum are contracted, so that the same numbers come out on every machine.

#pragma once

#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")  // GCC takes half of it unless told
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>
#ifdef __AVX__
#include <immintrin.h>
#endif

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
constexpr Count WIDTH = 256, LEAST_WIDTH = 64;   // values of a stretch with one step and with many
constexpr Count WORD = 16;                       // values of a word of bits, which no stretch cuts in two
constexpr Count ROWS_TOGETHER = 16;              // as many streams as a core reads ahead
constexpr Count SUMMED = 64;                     // rows that are summed in F before they are added in double
constexpr Count PAST_CACHES = Count(24) << 20;   // bytes

// The common layout of the large tensors: x [T, B, C, S], S all positions of a channel.
struct Shape {
    Count num_steps, batch, channels, size, channels_last, threads;

    Count sample() const { return channels * size; }
    Count rows() const { return num_steps * batch; }
};

// Whether a tensor is too large for the caches: then a line that is written need not be read first.
bool goes_past_the_caches(const Shape &shape) {
    return shape.rows() * shape.sample() * Count(sizeof(Stored)) >= PAST_CACHES;
}

void put_past_the_caches(Stored *to, const Stored *from, Count width) {
    const Count bytes = width * Count(sizeof(Stored));
#ifdef __AVX__
    if (reinterpret_cast<std::uintptr_t>(to) % 32 == 0 && bytes % 32 == 0) {
        auto *lines = reinterpret_cast<__m256i *>(to);
        const auto *given = reinterpret_cast<const __m256i *>(from);
        for (Count k = 0; k < bytes / 32; ++k) _mm256_stream_si256(lines + k, given[k]);
        return;
    }
#endif
    std::memcpy(to, from, bytes);
}

// Asks for the next stretch of a row: there are more rows side by side than a core reads ahead by itself.
void read_ahead(const Stored *at, Count width) {
    for (Count k = 0; k < width; k += 64 / Count(sizeof(Stored))) __builtin_prefetch(at + k, 0);
}

void write_ahead(const Stored *at, Count width) {
    for (Count k = 0; k < width; k += 64 / Count(sizeof(Stored))) __builtin_prefetch(at + k, 1);
}

// Other threads see these writes once this has returned.
void settle() {
#ifdef __AVX__
    _mm_sfence();
#endif
}

// A value per channel, as the values of a sample lie: [start] is the first of a stretch of them side by side. By
// position (channels_last) they come again with each position, so that a few are enough, which stay in the first cache.
class Spread {
    Count period = 1;
    std::vector<F> values;

public:
    Spread() = default;
    explicit Spread(F same) : values(WIDTH + 1, same) {}
    Spread(const Shape &shape, const F *values_C) : period(shape.channels_last ? shape.channels : shape.sample()) {
        values.reserve(period + WIDTH);
        if (shape.channels_last)
            for (Count n = 0; n < period + WIDTH; n += period)
                values.insert(values.end(), values_C, values_C + std::min(period, period + WIDTH - n));
        else
            for (Count c = 0; c < shape.channels; ++c) values.insert(values.end(), shape.size, values_C[c]);
    }

    const F &operator[](Count start) const { return values[start % period]; }
};

bool ends_a_sum(Count from, Count until, Count all) {
    return until / SUMMED > from / SUMMED || until == all;
}

// All stretches of a few rows, then of the next: few enough that a core reads each of them on as one stream. Each thread
// has stretches of its own, so that what is summed over rows does not depend on how many threads there are. Whenever as
// many rows are done as are summed, `end` is called, by one thread.
template <typename Work, typename End>
void in_blocks(Count threads, Count rows, Count together, Count N, Count widest, Work work, End end) {
    const Count stretches = (N + widest - 1) / widest, shares = std::max(Count(1), std::min(threads, stretches));
    for (Count first = 0, last = 0; first < rows; first = last) {
        for (bool ends = false; !ends;) {
            const Count from = last;
            last = std::min(from + together, rows);
            ends = ends_a_sum(from, last, rows);
        }
#ifdef _OPENMP
#pragma omp parallel for num_threads(int(shares)) schedule(static) if (shares > 1)
#endif
        for (Count share = 0; share < shares; ++share) {
            const Count left = stretches * share / shares * widest;
            const Count right = std::min(N, stretches * (share + 1) / shares * widest);
            for (Count from = first; from < last; from += together)
                for (Count start = left; start < right; start += widest)
                    work(from, std::min(from + together, last), start, std::min(widest, right - start));
            settle();
        }
        end();
    }
}

// The same for samples, whose rows are as many as steps.
template <typename Work, typename End>
void in_blocks_of_samples(const Shape &shape, Work work, End end) {
    const Count together = std::max(Count(1), ROWS_TOGETHER / shape.num_steps);
    const Count widest = std::max(LEAST_WIDTH, WIDTH / shape.num_steps / WORD * WORD);
    in_blocks(shape.threads, shape.batch, together, shape.sample(), widest, work, end);
}

// Where nothing is summed.
void nothing() {}

// The memory of a thread, which is allocated once.
template <int WHICH>
F *scratch(Count size) {
    thread_local std::vector<F> values;
    if (Count(values.size()) < size) values.resize(size);
    return values.data();
}

// A sum per channel: value by value over some rows, and then over the positions, in double.
struct Sum {
    Shape shape;
    std::vector<F> values_N;
    std::vector<double> total_C;

    Sum(const Shape &shape, bool asked)
        : shape(shape), values_N(asked ? shape.sample() : 0), total_C(shape.channels) {}

    // A stretch of it is worked on in place, where the compiler sees that nothing else lies there.
    void read(Count start, Count width, F *to) const {
        if (!values_N.empty()) std::copy_n(&values_N[start], width, to);
    }

    void write(Count start, Count width, const F *from) {
        if (!values_N.empty()) std::copy_n(from, width, &values_N[start]);
    }

    void end() {
        if (values_N.empty()) return;
        const Count C = shape.channels, positions = shape.size;
        if (shape.channels_last)
            for (Count p = 0; p < positions; ++p)
                for (Count c = 0; c < C; ++c) total_C[c] += values_N[p * C + c];
        else
            for (Count c = 0; c < C; ++c)
                for (Count p = 0; p < positions; ++p) total_C[c] += values_N[c * positions + p];
        std::fill(values_N.begin(), values_N.end(), F(0));
    }

    F total() const { return F(std::accumulate(total_C.begin(), total_C.end(), 0.0)); }
};

}  // namespace
