// Convolutions of spikes by tables of sums: what four channels add to an output is looked up, whichever of them fire.
//
//     REAL      float or double: the type of the computation; STORED is the same
//
// Shapes: N images, C input and O output channels, H W space, H' W' that of the output, K the kernel's side. Spikes come
// as bits, 16 channels of a position in a word, [N, H, W, ceil(C / 16)]; outputs lie by position (channels last).
//
// The sums of four weights that a tap has for one lane of outputs, of each of the 16 ways in which four channels fire,
// make a table; a word of spikes is four offsets into its tables. What a position gives to the outputs around it is
// looked up while its offsets are at hand, and the outputs of a strip stay in registers, so that nothing is written but
// the result, and nothing depends on how many fire. The tables of 16 channels and one lane fit in the first cache, and
// all positions of a few images go through them before the next.
//
// No sum depends on the number of threads or on the width of the machine's vectors.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

using Count = std::int64_t;
using Word = std::uint16_t;     // spikes of 16 channels
using Offsets = std::uint64_t;  // four, of 16 bits, in bytes
using F = REAL;

constexpr Count LANE = 64 / sizeof(F), TOGETHER = 4, WAYS = 16, TABLES = 4;  // of a word
constexpr Count TABLE = WAYS * 64, TAP = TABLES * TABLE;                      // bytes
constexpr Count POSITIONS_TOGETHER = 1024;
typedef F Lane __attribute__((vector_size(64)));
typedef F Unaligned __attribute__((vector_size(64), aligned(sizeof(F))));
#ifdef __AVX512F__
constexpr int STRIP = 8;  // outputs in registers
#else
constexpr int STRIP = 5;
#endif

// The arguments; build.py has the same.
struct Call {
    Count images, in_channels, out_channels, height, width, kernel, stride, out_height, out_width, threads;
    const F *x;        // spikes to be packed, [N, H, W, C]
    Word *bits;        // [N, H, W, words]
    const F *tables;   // [lanes, words, K, K, 4, 16, LANE]
    const F *bias;     // of whole lanes
    const F *stream;   // [N, H', W', O], to which the result is added, may be y; or null
    F *y;              // [N, H', W', O]

    Count words() const { return (in_channels + 15) / 16; }
    Count lanes() const { return (out_channels + LANE - 1) / LANE; }
    Count pad() const { return kernel / 2; }
    Count pitch() const { return (out_width - 1) * stride + kernel; }     // of a padded row, all that is read
    Count rows() const { return (out_height - 1) * stride + kernel; }
    Count together() const {
        return std::max(Count(1), std::min(images, POSITIONS_TOGETHER / (out_height * out_width)));
    }
};

// ---- bits ---------------------------------------------------------------------------------------

Word word_of(const F *x, Count number) {
#ifdef __AVX2__
    if constexpr (sizeof(F) == 4) {
        if (number == 16) {
            const __m256 low = _mm256_loadu_ps((const float *)x), high = _mm256_loadu_ps((const float *)x + 8);
            const __m256 zero = _mm256_setzero_ps();
            return Word(_mm256_movemask_ps(_mm256_cmp_ps(low, zero, _CMP_NEQ_UQ)) |
                        _mm256_movemask_ps(_mm256_cmp_ps(high, zero, _CMP_NEQ_UQ)) << 8);
        }
    }
#endif
    unsigned bits = 0;
    for (Count k = 0; k < number; ++k) bits |= unsigned(x[k] != 0) << k;
    return Word(bits);
}

// Four offsets, one per four channels: their spikes times the size of a row of a table.
Offsets offsets_of(Word spikes) {
    const Offsets s = spikes;
    return ((s & 15) | (s & 240) << 12 | (s & 3840) << 24 | (s & 61440) << 36) << 6;
}

// ---- sums ---------------------------------------------------------------------------------------

// Where a strip's outputs lie, in one lane: `step` values apart.
struct Strip {
    const F *from;  // what they are added to, or null
    F *to;
    Count step;
};

// Computes a strip; given: the offsets of the first tap of its first output.
template <int OUTPUTS, int KERNEL, int STRIDE>
void add(const Offsets *given, Count pitch, const char *tables, const Lane &bias, const Strip &strip) {
    Lane held[OUTPUTS];
    for (int o = 0; o < OUTPUTS; ++o) held[o] = bias;
    if (strip.from)
        for (int o = 0; o < OUTPUTS; ++o) held[o] += *reinterpret_cast<const Unaligned *>(strip.from + o * strip.step);
    for (int row = 0; row < KERNEL; ++row, given += pitch, tables += KERNEL * TAP) {
#pragma GCC unroll 32
        for (int column = 0; column < (OUTPUTS - 1) * STRIDE + KERNEL; ++column) {
            const Offsets here = given[column];
#pragma GCC unroll 4
            for (int table = 0; table < TABLES; ++table) {
                const char *at = tables + (here >> (16 * table) & 0xffff) + table * TABLE;
#pragma GCC unroll 3
                for (int tap = 0; tap < KERNEL; ++tap) {
                    const int o = (column - tap) / STRIDE;
                    if (column >= tap && (column - tap) % STRIDE == 0 && o < OUTPUTS)
                        held[o] += *reinterpret_cast<const Lane *>(at + tap * TAP);
                }
            }
        }
    }
    for (int o = 0; o < OUTPUTS; ++o) *reinterpret_cast<Unaligned *>(strip.to + o * strip.step) = held[o];
}

using Add = void (*)(const Offsets *, Count, const char *, const Lane &, const Strip &);

template <int KERNEL, int STRIDE>
Add add_of(Count outputs) {
    switch (outputs) {
        case 1: return add<1, KERNEL, STRIDE>;
        case 2: return add<2, KERNEL, STRIDE>;
        case 3: return add<3, KERNEL, STRIDE>;
        case 4: return add<4, KERNEL, STRIDE>;
        case 5: return add<5, KERNEL, STRIDE>;
#ifdef __AVX512F__
        case 6: return add<6, KERNEL, STRIDE>;
        case 7: return add<7, KERNEL, STRIDE>;
        case 8: return add<8, KERNEL, STRIDE>;
#endif
        default: return nullptr;
    }
}

Add add_of(const Call &call, Count outputs) {
    if (call.kernel == 1) return call.stride == 1 ? add_of<1, 1>(outputs) : add_of<1, 2>(outputs);
    return call.stride == 1 ? add_of<3, 1>(outputs) : add_of<3, 2>(outputs);
}

// The offsets of some images, word by word, with a border in which nothing fires: [words, images, rows, pitch].
void take_offsets(const Call &call, Count from, Count number, Offsets *offsets) {
    const Count words = call.words(), pitch = call.pitch(), area = call.rows() * pitch, pad = call.pad();
    const Count height = std::min(call.height, call.rows() - pad), width = std::min(call.width, pitch - pad);
    for (Count n = 0; n < number; ++n)
        for (Count y = 0; y < height; ++y) {
            const Word *bits = call.bits + ((from + n) * call.height + y) * call.width * words;
            Offsets *row = offsets + n * area + (y + pad) * pitch + pad;
            for (Count w = 0; w < words; ++w, row += number * area)
                for (Count x = 0; x < width; ++x) row[x] = offsets_of(bits[x * words + w]);
        }
}

// Computes a strip of fewer channels than a lane has.
void add_few(Add add, Count outputs, Count few, const Offsets *given, Count pitch, const char *tables, const Lane &bias,
             const Strip &strip) {
    Lane wide[STRIP];
    F *at = reinterpret_cast<F *>(wide);
    if (strip.from)
        for (Count o = 0; o < outputs; ++o) std::copy_n(strip.from + o * strip.step, few, at + o * LANE);
    add(given, pitch, tables, bias, {strip.from ? at : nullptr, at, LANE});
    for (Count o = 0; o < outputs; ++o) std::copy_n(at + o * LANE, few, strip.to + o * strip.step);
}

void convolve(const Call &call, Count from, Count number, std::vector<Offsets> &space) {
    const Count words = call.words(), area = call.rows() * call.pitch(), W = call.out_width, O = call.out_channels;
    space.assign(number * area * words, 0);
    take_offsets(call, from, number, space.data());
    const Count strips = (W + STRIP - 1) / STRIP, strip = (W + strips - 1) / strips;
    const Count rest = W - (strips - 1) * strip;
    const Add whole = add_of(call, strip), last = add_of(call, rest);
    const Count block = call.kernel * call.kernel * TAP;
    for (Count lane = 0; lane < call.lanes(); ++lane)
        for (Count w = 0; w < words; ++w) {
            const Count few = std::min(LANE, O - lane * LANE);
            const char *tables = reinterpret_cast<const char *>(call.tables) + (lane * words + w) * block;
            const Lane bias = w ? Lane{} : reinterpret_cast<const Lane *>(call.bias)[lane];
            for (Count n = 0; n < number; ++n)
                for (Count y = 0; y < call.out_height; ++y) {
                    const Count row = ((from + n) * call.out_height + y) * W;
                    const Offsets *given = space.data() + (w * number + n) * area + y * call.stride * call.pitch();
                    for (Count x = 0; x < W; x += strip) {
                        const Count outputs = std::min(strip, W - x), at = (row + x) * O + lane * LANE;
                        const F *before = w ? call.y : call.stream;
                        const Strip here{before ? before + at : nullptr, call.y + at, O};
                        const Add add = outputs == strip ? whole : last;
                        const Offsets *first = given + x * call.stride;
                        if (few == LANE)
                            add(first, call.pitch(), tables, bias, here);
                        else
                            add_few(add, outputs, few, first, call.pitch(), tables, bias, here);
                    }
                }
        }
}

template <typename Work>
void in_parallel(Count number, Count threads, Work work) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(int(threads)) schedule(static) if (threads > 1 && number > 1)
#endif
    for (Count k = 0; k < number; ++k) work(k);
    (void)threads;
}

}  // namespace

extern "C" void pack(const Call *given) {
    const Call &call = *given;
    const Count C = call.in_channels, words = call.words(), P = call.height * call.width;
    in_parallel(call.images, call.threads, [&](Count n) {
        for (Count p = n * P; p < (n + 1) * P; ++p)
            for (Count w = 0; w < words; ++w)
                call.bits[p * words + w] = word_of(call.x + p * C + 16 * w, std::min(Count(16), C - 16 * w));
    });
}

extern "C" void forward(const Call *given) {
    const Call &call = *given;
    const Count together = call.together(), parts = (call.images + together - 1) / together;
    const Count share = std::max(Count(1), std::min(call.threads, parts));
    in_parallel(share, share, [&](Count thread) {
        std::vector<Offsets> space;
        for (Count part = parts * thread / share; part < parts * (thread + 1) / share; ++part)
            convolve(call, part * together, std::min(together, call.images - part * together), space);
    });
}
