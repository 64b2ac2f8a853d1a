// Shared by the passes: numbers, the order in which large tensors are gone through, sums per channel; one CPU thread.
//
//     REAL      float or double: the type of the computation
//     STORED    the same, or Bfloat16: the type of the large tensors in memory
//
// The N = C S values of a sample lie side by side, by channel or (channels_last) by position, and are taken in
// stretches, whose state stays in the first cache. No sum depends on the width of the machine's vectors, and no product
// and sum are contracted, so that the same numbers come out on every machine.

#pragma once

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
constexpr Count ROWS_TOGETHER = 16;              // as many streams as a core reads ahead
constexpr Count SUMMED = 64;                     // rows that are summed in F before they are added in double
constexpr Count PAST_CACHES = Count(24) << 20;   // bytes

// The common layout of the large tensors: x [T, B, C, S], S all positions of a channel.
struct Shape {
    Count num_steps, batch, channels, size, channels_last;

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

// Other threads see these writes once this has returned.
void settle() {
#ifdef __AVX__
    _mm_sfence();
#endif
}

// Values per channel, spread out over the N values of a sample: a division per value would cost as much as a
// pass.
struct Channels {
    std::vector<std::uint32_t> of_N;

    explicit Channels(const Shape &shape) : of_N(shape.sample()) {
        const Count inner = shape.channels_last ? 1 : shape.size, C = shape.channels;
        Count c = 0, position = 0;
        for (auto &channel : of_N) {
            channel = std::uint32_t(c);
            if (++position == inner) position = 0, ++c;
            if (c == C) c = 0;
        }
    }

    std::vector<F> spread(const F *values_C) const {
        std::vector<F> values_N(of_N.size());
        for (std::size_t n = 0; n < of_N.size(); ++n) values_N[n] = values_C[of_N[n]];
        return values_N;
    }
};

// All stretches of a few rows, then of the next: few enough that a core reads each of them on as one stream.
template <typename Work>
void in_blocks(Count rows, Count together, Count N, Count widest, Work work) {
    for (Count from = 0; from < rows; from += together)
        for (Count start = 0; start < N; start += widest)
            work(from, std::min(from + together, rows), start, std::min(widest, N - start));
}

// The same for samples, whose rows are as many as steps.
template <typename Work>
void in_blocks_of_samples(const Shape &shape, Work work) {
    const Count together = std::max(Count(1), ROWS_TOGETHER / shape.num_steps);
    in_blocks(shape.batch, together, shape.sample(), std::max(LEAST_WIDTH, WIDTH / shape.num_steps), work);
}

bool ends_a_sum(Count from, Count until, Count all) {
    return until / SUMMED > from / SUMMED || until == all;
}

// A sum per channel: value by value over some rows, and then over the positions, in double.
struct Sum {
    std::vector<F> values_N;
    std::vector<double> total_C;

    Sum(const Shape &shape, bool asked) : values_N(asked ? shape.sample() : 0), total_C(shape.channels) {}

    // A stretch of it is worked on in place, where the compiler sees that nothing else lies there.
    void read(Count start, Count width, F *to) const {
        if (!values_N.empty()) std::copy_n(&values_N[start], width, to);
    }

    void write(Count start, Count width, const F *from) {
        if (!values_N.empty()) std::copy_n(from, width, &values_N[start]);
    }

    void end(const Channels &channels) {
        for (std::size_t n = 0; n < values_N.size(); ++n) total_C[channels.of_N[n]] += values_N[n];
        std::fill(values_N.begin(), values_N.end(), F(0));
    }

    F total() const { return F(std::accumulate(total_C.begin(), total_C.end(), 0.0)); }
};

}  // namespace
