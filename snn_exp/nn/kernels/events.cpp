// Convolutions of spikes by additions alone: where a spike is, a row of weights is added; on any number of threads.
//
//     REAL      float or double: the type of the computation; STORED is the same
//     FORM      512, 256 or 0: written for AVX-512, AVX2 or any processor; what the compiler's target has unless given
//
// Shapes: N images, G groups of C input and O output channels, H W space, H' W' that of the output, K the kernel's
// side. Spikes come as bits, a plane of H W per image and channel, in words of 64. Outputs and their gradients lie by
// position (channels last).
//
// A spike at (i, j) reaches the outputs (i + pad - k) / stride for those taps k that divide; which they are depends on
// i + pad modulo stride alone, so that positions fall into stride^2 classes. In a class, the taps of a spike are a
// rectangle of outputs side by side. Spikes are taken channel by channel: the weights of a channel's taps (forward) or
// the sum of the gradients under them (backward) stay in registers, while the list of its spikes is gone through, which
// is made without a branch per spike. Outputs are summed in a padded copy of a few images that stays in the cache.
//
// Spikes that are filtered over time, psp[t] = decay psp[t-1] + s[t], need no more: the outputs of a step start from
// decay times those of the step before, and so do their gradients, step by step from the last. The second moment of psp
// follows from how often two steps of a channel fire at the same place.
//
// No sum depends on the number of threads or on the width of the machine's vectors.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>
#ifndef FORM
#if defined(__AVX512F__)
#define FORM 512
#elif defined(__AVX2__)
#define FORM 256
#else
#define FORM 0
#endif
#endif
#if FORM
#include <immintrin.h>
#endif

namespace {

using Count = std::int64_t;
using Word = std::uint64_t;
using Offset = std::uint32_t;
using F = REAL;

constexpr Count LANE = 64 / sizeof(F);  // values of a lane
typedef F Lane __attribute__((vector_size(64)));

// lanes that fit in the registers, and lanes of a block of output channels
constexpr Count HELD = FORM == 512 ? 28 : 7, WIDEST = FORM == 512 ? 4 : 2;
constexpr Count TILE_BYTES = Count(48) << 10;  // of the padded outputs that are summed together
constexpr Count CHUNKS = 8, POSITIONS_OF_A_CHUNK = 512;

// The arguments; build.py has the same.
struct Call {
    Count images, groups, in_channels, out_channels, height, width, kernel, stride, out_height, out_width, threads;
    Count by_position;                     // whether x is [N, H, W, G C] in memory; else [N, G C, H, W]
    Count weight_strides[4];               // of weight and grad_weight [G O, C, K, K], in values
    const F *x;                            // spikes
    Word *bits;                            // [N, G C, words]
    const F *weight;
    F *y;                                  // [N, H', W', G O]
    const F *grad_y;
    F *grad_weight;
    Count spikes, others;                  // found by pack: values that are 1, and those that are neither 0 nor 1
    const std::uint16_t *known;            // if known, the spikes by position, 16 channels in a word; then x is not read
    Count steps;                           // that a filter goes through, the images of one after those of another; 0: no
    double decay;                          // of the filter
    Count *counts;                         // [C, steps, steps], t' <= t: places where t and t' of a channel fire

    Count in_time() const { return std::max(Count(1), steps); }
    Count of_a_step() const { return images / in_time(); }
    Count positions() const { return height * width; }
    Count words() const { return (positions() + 63) / 64; }
    Count lanes() const { return (out_channels + LANE - 1) / LANE; }  // of a position
    Count pad() const { return kernel / 2; }
    Count pitch() const { return (out_width + 2 * pad()) * lanes(); }  // lanes of a padded row
    Count padded() const { return (out_height + 2 * pad()) * pitch(); }  // of a padded image
    Count tile() const { return std::max(Count(1), std::min(of_a_step(), TILE_BYTES / (padded() * 64))); }
    Count tiles() const { return (of_a_step() + tile() - 1) / tile(); }  // of a step
    Count taps() const { return kernel * kernel; }
};

struct Free {
    void operator()(void *memory) const { std::free(memory); }
};

// Lanes on a cache line, all 0.
struct Lanes {
    std::unique_ptr<Lane[], Free> memory;

    explicit Lanes(Count size) : memory(static_cast<Lane *>(std::aligned_alloc(64, std::max(size, Count(1)) * 64))) {
        std::memset(static_cast<void *>(memory.get()), 0, size * 64);
    }
    Lane *get() const { return memory.get(); }
};

// ---- bits ---------------------------------------------------------------------------------------

struct Found {
    Count spikes = 0, others = 0;
};

// The bits of a few values, 8 at most; what is neither 0 nor 1 counts as a spike.
Word few_of(const F *x, Count number, Found &found) {
    Word bits = 0;
    for (Count k = 0; k < number; ++k) {
        bits |= Word(x[k] != 0) << k;
        found.others += x[k] != 0 && x[k] != 1;
    }
    return bits;
}

Word byte_of(const F *x, Found &found) {
#if FORM
    if constexpr (sizeof(F) == 4) {
        const __m256 given = _mm256_loadu_ps((const float *)x);
        const __m256 is_not_0 = _mm256_cmp_ps(given, _mm256_setzero_ps(), _CMP_NEQ_UQ);
        const __m256 is_not_1 = _mm256_cmp_ps(given, _mm256_set1_ps(1), _CMP_NEQ_UQ);
        found.others += __builtin_popcount(unsigned(_mm256_movemask_ps(_mm256_and_ps(is_not_0, is_not_1))));
        return Word(unsigned(_mm256_movemask_ps(is_not_0)));
    }
#endif
    return few_of(x, 8, found);
}

// 8 x 8 bits, rows for columns. Source: Warren, Hacker's Delight, 7-3.
Word transposed(Word x) {
    Word t = (x ^ (x >> 7)) & 0x00AA00AA00AA00AA;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000CCCC0000CCCC;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000F0F0F0F0;
    return x ^ t ^ (t << 28);
}

// eight_at(p, c, number, found): the bits of the channels c to c + number at position p
template <typename Eight>
Found pack_by_position(const Call &call, Count n, Eight eight_at) {
    Found found;
    const Count C = call.groups * call.in_channels, P = call.positions(), words = call.words();
    Word *bits = call.bits + n * C * words;
    std::fill_n(bits, C * words, Word(0));
    for (Count p = 0; p < P; p += 8) {
        const Count deep = std::min(Count(8), P - p);
        for (Count c = 0; c < C; c += 8) {
            const Count wide = std::min(Count(8), C - c);
            Word rows = 0;
            for (Count k = 0; k < deep; ++k) rows |= eight_at(p + k, c, wide, found) << (8 * k);
            found.spikes += __builtin_popcountll(rows);
            if (!rows) continue;
            rows = transposed(rows);
            for (Count k = 0; k < wide; ++k)
                bits[(c + k) * words + p / 64] |= (rows >> (8 * k) & 255) << (p % 64);
        }
    }
    return found;
}

Found pack_values_by_position(const Call &call, Count n) {
    const Count C = call.groups * call.in_channels;
    const F *x = call.x + n * call.positions() * C;
    return pack_by_position(call, n, [&](Count p, Count c, Count wide, Found &found) {
        const F *at = x + p * C + c;
        return wide == 8 ? byte_of(at, found) : few_of(at, wide, found);
    });
}

Found pack_words(const Call &call, Count n) {
    const Count of_a_position = call.groups * call.in_channels / 16;
    const std::uint16_t *words = call.known + n * call.positions() * of_a_position;
    return pack_by_position(call, n, [&](Count p, Count c, Count, Found &) {
        return Word(words[p * of_a_position + c / 16]) >> (c % 16) & 255;
    });
}

Found pack_by_channel(const Call &call, Count n) {
    Found found;
    const Count C = call.groups * call.in_channels, P = call.positions(), words = call.words();
    for (Count c = 0; c < C; ++c) {
        const F *x = call.x + (n * C + c) * P;
        Word *bits = call.bits + (n * C + c) * words;
        for (Count p = 0; p < P; p += 64) {
            Word word = 0;
            Count k = 0;
            for (; k + 8 <= std::min(Count(64), P - p); k += 8) word |= byte_of(x + p + k, found) << k;
            if (p + k < P && k < 64) word |= few_of(x + p + k, P - p - k, found) << k;
            found.spikes += __builtin_popcountll(word);
            bits[p / 64] = word;
        }
    }
    return found;
}

// ---- lists of spikes ----------------------------------------------------------------------------

#if FORM == 256
struct Permutations {
    alignas(32) Offset of[256][8];
    Permutations() {
        for (int byte = 0; byte < 256; ++byte) {
            int n = 0;
            for (Offset k = 0; k < 8; ++k)
                if (byte >> k & 1) of[byte][n++] = k;
            while (n < 8) of[byte][n++] = 0;
        }
    }
};
const Permutations permutations;
#endif

// Appends the offsets whose bits are set; may write up to 16 more behind them.
Offset *append(Offset *list, Word word, const Offset *offsets) {
#if FORM == 512
    for (int k = 0; k < 64; k += 16) {
        const __mmask16 mask = __mmask16(word >> k);
        _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(mask, _mm512_loadu_si512(offsets + k)));
        list += __builtin_popcount(mask);
    }
#elif FORM == 256
    for (int k = 0; k < 64; k += 8) {
        const unsigned byte = word >> k & 255;
        const __m256i order = _mm256_load_si256((const __m256i *)permutations.of[byte]);
        const __m256i given = _mm256_loadu_si256((const __m256i *)(offsets + k));
        _mm256_storeu_si256((__m256i *)list, _mm256_permutevar8x32_epi32(given, order));
        list += __builtin_popcount(byte);
    }
#else
    for (; word; word &= word - 1) *list++ = offsets[__builtin_ctzll(word)];
#endif
    return list;
}

// Positions with the same taps.
struct Class {
    Count rows, run, first_row, first_column;  // taps, and the first kernel row and column of them
    Count start;                               // taps of the classes before
    std::vector<Offset> offsets;               // of a tile's positions: the first lane of their taps
    std::vector<Word> mask;                    // the positions in the class

    // kernel row or column of the k-th output of n side by side
    static Count tap(Count first, Count stride, Count n, Count k) { return first + (n - 1 - k) * stride; }
};

std::vector<Class> classes_of(const Call &call) {
    std::vector<Class> classes;
    const Count s = call.stride, K = call.kernel, pad = call.pad(), words = call.words(), W = call.width;
    Count start = 0;
    for (Count i = 0; i < s; ++i)
        for (Count j = 0; j < s; ++j) {
            Class some{(K - i + s - 1) / s, (K - j + s - 1) / s, i, j, start, {}, {}};
            if (i >= K || j >= K) continue;
            some.offsets.resize(call.tile() * words * 64);
            some.mask.resize(words);
            for (Count y = 0; y < call.height; ++y)
                for (Count x = 0; x < W; ++x) {
                    if ((y + pad) % s != i || (x + pad) % s != j) continue;
                    const Count p = y * W + x;
                    const Count row = (y + pad - i) / s - some.rows + 1 + pad;
                    const Count column = (x + pad - j) / s - some.run + 1 + pad;
                    some.mask[p / 64] |= Word(1) << (p % 64);
                    some.offsets[p] = Offset(row * call.pitch() + column * call.lanes());
                }
            for (Count n = 1; n < call.tile(); ++n)
                for (Count p = 0; p < call.positions(); ++p)
                    some.offsets[n * words * 64 + p] = some.offsets[p] + Offset(n * call.padded());
            start += some.rows * some.run;
            classes.push_back(std::move(some));
        }
    return classes;
}

// ---- the two sums -------------------------------------------------------------------------------

template <Count V, Count ROWS, Count RUN>
struct Taps {
    // at += weight for each spike of the list, spike by spike: the order of the sums is the same for any registers
    static void add(const Offset *list, const Offset *end, const Lane *weight, Lane *sums, Count pitch, Count step) {
        Lane held[ROWS * RUN * V];
        for (Count k = 0; k < ROWS * RUN * V; ++k) held[k] = weight[k];
        for (const Offset *spike = list; spike != end; ++spike) {
            Lane *at = sums + *spike;
#pragma GCC unroll 3
            for (Count r = 0; r < ROWS; ++r)
#pragma GCC unroll 3
                for (Count q = 0; q < RUN; ++q)
#pragma GCC unroll 4
                    for (Count v = 0; v < V; ++v) at[r * pitch + q * step + v] += held[(r * RUN + q) * V + v];
        }
    }

    // sum += what lies under each spike of the list
    static void collect(const Offset *list, const Offset *end, Lane *sum, const Lane *given, Count pitch, Count step) {
        constexpr Count TOGETHER = ROWS * RUN * V <= HELD ? ROWS : 1;
        for (Count first = 0; first < ROWS; first += TOGETHER) {
            Lane held[TOGETHER * RUN * V];
            for (Count k = 0; k < TOGETHER * RUN * V; ++k) held[k] = Lane{};
            const Lane *from = given + first * pitch;
            for (const Offset *spike = list; spike != end; ++spike) {
                const Lane *at = from + *spike;
#pragma GCC unroll 3
                for (Count r = 0; r < TOGETHER; ++r)
#pragma GCC unroll 3
                    for (Count q = 0; q < RUN; ++q)
#pragma GCC unroll 4
                        for (Count v = 0; v < V; ++v) held[(r * RUN + q) * V + v] += at[r * pitch + q * step + v];
            }
            for (Count k = 0; k < TOGETHER * RUN * V; ++k) sum[first * RUN * V + k] += held[k];
        }
    }
};

using Add = void (*)(const Offset *, const Offset *, const Lane *, Lane *, Count, Count);
using Collect = void (*)(const Offset *, const Offset *, Lane *, const Lane *, Count, Count);

struct Sums {
    Add add;
    Collect collect;
};

template <Count V, Count ROWS>
Sums sums_of(Count run) {
    switch (run) {
        case 1: return {Taps<V, ROWS, 1>::add, Taps<V, ROWS, 1>::collect};
        case 2: return {Taps<V, ROWS, 2>::add, Taps<V, ROWS, 2>::collect};
        default: return {Taps<V, ROWS, 3>::add, Taps<V, ROWS, 3>::collect};
    }
}

template <Count V>
Sums sums_of(Count rows, Count run) {
    switch (rows) {
        case 1: return sums_of<V, 1>(run);
        case 2: return sums_of<V, 2>(run);
        default: return sums_of<V, 3>(run);
    }
}

Sums sums_of(Count lanes, Count rows, Count run) {
    if (lanes == 1) return sums_of<1>(rows, run);
#if FORM == 512
    if (lanes == 3) return sums_of<3>(rows, run);
    if (lanes == 4) return sums_of<4>(rows, run);
#endif
    return sums_of<2>(rows, run);
}

// The images of a tile at a step.
struct Images {
    Count from, number;

    Images(const Call &call, Count tile, Count step)
        : from(step * call.of_a_step() + tile * call.tile()),
          number(std::min(call.tile(), call.of_a_step() - tile * call.tile())) {}
};

// Goes through the spikes of some images and a group: work is given class, channel and list.
template <typename Work>
void for_each_list(
    const Call &call, const std::vector<Class> &classes, Images images, Count group, std::vector<Offset> &space,
    Work work
) {
    const Count C = call.in_channels, words = call.words(), from = images.from, number = images.number;
    space.resize(number * words * 64 + 16);
    for (Count c = 0; c < C; ++c)
        for (const Class &some : classes) {
            Offset *end = space.data();
            for (Count n = 0; n < number; ++n) {
                const Word *bits = call.bits + (((from + n) * call.groups + group) * C + c) * words;
                const Offset *offsets = some.offsets.data() + n * words * 64;
                for (Count k = 0; k < words; ++k) end = append(end, bits[k] & some.mask[k], offsets + 64 * k);
            }
            if (end != space.data()) work(some, c, space.data(), end);
        }
}

// The place of a block of a channel's weights: [G, C, class, block, rows, run, lanes of the block].
Count place(const Call &call, Count group, Count c, const Class &some, Count first_lane) {
    const Count taps_before = (group * call.in_channels + c) * call.taps() + some.start;
    return taps_before * call.lanes() + some.rows * some.run * first_lane;
}

// Goes through all weights: work is given their place, as a value's, and their address in the tensor.
template <typename Work>
void for_each_weight(const Call &call, const std::vector<Class> &classes, Work work) {
    const Count lanes = call.lanes();
    for (Count g = 0; g < call.groups; ++g)
        for (Count c = 0; c < call.in_channels; ++c)
            for (const Class &some : classes)
                for (Count first = 0; first < lanes; first += WIDEST) {
                    const Count wide = std::min(WIDEST, lanes - first), at = place(call, g, c, some, first);
                    const Count channels = std::min(wide * LANE, call.out_channels - first * LANE);
                    for (Count r = 0; r < some.rows; ++r)
                        for (Count q = 0; q < some.run; ++q) {
                            const Count y = Class::tap(some.first_row, call.stride, some.rows, r);
                            const Count x = Class::tap(some.first_column, call.stride, some.run, q);
                            const Count *strides = call.weight_strides;
                            const Count address = (g * call.out_channels + first * LANE) * strides[0] + c * strides[1] +
                                                  y * strides[2] + x * strides[3];
                            const Count value = (at + (r * some.run + q) * wide) * LANE;
                            for (Count o = 0; o < channels; ++o) work(value + o, address + o * strides[0]);
                        }
                }
}

// Copies between the padded outputs of a tile and the tensor: work is given both addresses and the number of values.
template <typename Values, typename Work>
void for_each_position(const Call &call, Images images, Count group, Lane *padded, Values *tensor, Work work) {
    const Count from = images.from, number = images.number;
    const Count O = call.out_channels, all = call.groups * O;
    for (Count n = 0; n < number; ++n)
        for (Count y = 0; y < call.out_height; ++y) {
            Lane *row = padded + n * call.padded() + (y + call.pad()) * call.pitch() + call.pad() * call.lanes();
            Values *to = tensor + ((from + n) * call.out_height + y) * call.out_width * all + group * O;
            if (all == O && O == call.lanes() * LANE)
                work(reinterpret_cast<F *>(row), to, call.out_width * O);
            else
                for (Count x = 0; x < call.out_width; ++x)
                    work(reinterpret_cast<F *>(row + x * call.lanes()), to + x * all, O);
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

extern "C" void pack(Call *call) {
    std::vector<Found> of_image(call->images);
    in_parallel(call->images, call->threads, [&](Count n) {
        of_image[n] = call->known        ? pack_words(*call, n)
                      : call->by_position ? pack_values_by_position(*call, n)
                                          : pack_by_channel(*call, n);
    });
    for (const Found &found : of_image) call->spikes += found.spikes, call->others += found.others;
    call->spikes -= call->others;
}

extern "C" void count_pairs(const Call *given) {
    const Call &call = *given;
    const Count T = call.in_time(), C = call.groups * call.in_channels, words = call.words(), B = call.of_a_step();
    in_parallel(C, call.threads, [&](Count c) {
        for (Count t = 0; t < T; ++t)
            for (Count other = 0; other <= t; ++other) {
                Count found = 0;
                for (Count b = 0; b < B; ++b) {
                    const Word *one = call.bits + ((t * B + b) * C + c) * words;
                    const Word *two = call.bits + ((other * B + b) * C + c) * words;
                    for (Count k = 0; k < words; ++k) found += __builtin_popcountll(one[k] & two[k]);
                }
                call.counts[(c * T + t) * T + other] = found;
            }
    });
}

extern "C" void forward(const Call *given) {
    const Call &call = *given;
    const auto classes = classes_of(call);
    const Lanes weights(call.groups * call.in_channels * call.taps() * call.lanes());
    for_each_weight(call, classes, [&](Count value, Count address) {
        reinterpret_cast<F *>(weights.get())[value] = call.weight[address];
    });
    const Count share = std::max(Count(1), std::min(call.threads, call.tiles()));
    in_parallel(share, share, [&](Count thread) {
        const Count size = call.tile() * call.padded();
        const Lanes sums(size);
        std::vector<Offset> space;
        for (Count tile = call.tiles() * thread / share; tile < call.tiles() * (thread + 1) / share; ++tile)
            for (Count g = 0; g < call.groups; ++g) {
                std::memset(static_cast<void *>(sums.get()), 0, size * 64);
                const auto work = [&](const Class &some, Count c, Offset *list, Offset *end) {
                    for (Count first = 0; first < call.lanes(); first += WIDEST) {
                        const Lane *weight = weights.get() + place(call, g, c, some, first);
                        const Count wide = std::min(WIDEST, call.lanes() - first);
                        sums_of(wide, some.rows, some.run)
                            .add(list, end, weight, sums.get() + first, call.pitch(), call.lanes());
                    }
                };
                for (Count step = 0; step < call.in_time(); ++step) {
                    if (step)
                        for (Count k = 0; k < size; ++k) sums.get()[k] *= F(call.decay);
                    const Images images(call, tile, step);
                    for_each_list(call, classes, images, g, space, work);
                    for_each_position(call, images, g, sums.get(), call.y, [](const F *sum, F *y, Count n) {
                        std::memcpy(y, sum, n * sizeof(F));
                    });
                }
            }
    });
}

extern "C" void backward(const Call *given) {
    const Call &call = *given;
    const auto classes = classes_of(call);
    const Count size = call.groups * call.in_channels * call.taps() * call.lanes();
    const Count most = std::max(Count(1), call.images * call.positions() / POSITIONS_OF_A_CHUNK);
    const Count chunks = std::min({CHUNKS, most, call.tiles()});
    const Lanes sums(chunks * size);
    in_parallel(chunks, call.threads, [&](Count chunk) {
        const Lanes given(call.tile() * call.padded());
        std::vector<Offset> space;
        for (Count tile = call.tiles() * chunk / chunks; tile < call.tiles() * (chunk + 1) / chunks; ++tile)
            for (Count g = 0; g < call.groups; ++g) {
                const auto work = [&](const Class &some, Count c, Offset *list, Offset *end) {
                    for (Count first = 0; first < call.lanes(); first += WIDEST) {
                        Lane *sum = sums.get() + chunk * size + place(call, g, c, some, first);
                        const Count wide = std::min(WIDEST, call.lanes() - first);
                        sums_of(wide, some.rows, some.run)
                            .collect(list, end, sum, given.get() + first, call.pitch(), call.lanes());
                    }
                };
                for (Count step = call.in_time() - 1; step >= 0; --step) {
                    const F kept = step == call.in_time() - 1 ? F(0) : F(call.decay);
                    const Images images(call, tile, step);
                    for_each_position(call, images, g, given.get(), call.grad_y, [&](F *copy, const F *grad, Count n) {
                        if (kept == 0)
                            std::memcpy(copy, grad, n * sizeof(F));
                        else
                            for (Count k = 0; k < n; ++k) copy[k] = grad[k] + kept * copy[k];
                    });
                    for_each_list(call, classes, images, g, space, work);
                }
            }
    });
    for (Count chunk = 1; chunk < chunks; ++chunk)
        for (Count k = 0; k < size; ++k) sums.get()[k] += sums.get()[chunk * size + k];
    for_each_weight(call, classes, [&](Count value, Count address) {
        call.grad_weight[address] = reinterpret_cast<const F *>(sums.get())[value];
    });
}
