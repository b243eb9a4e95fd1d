/* Attention within each text of a packed batch, with dropout on its weights, and its gradients.

For each head of each text:  weights = softmax(query key' / sqrt(depth)),  answer = (weights * factors) value,
where factors are 0 with probability rate, else 1 / (1 - rate). A block of rows goes through all of it while it is in
the processor's cache. What backward needs is the weights, kept with a minus where they were dropped.

Matrices are row by row; a text's rows of query, key and value are `width` floats apart, a head's columns `depth` of
them. Rows of weights are padded to multiples of PADDED. Vectors are GCC's and Clang's (vector_size), as wide as the
processor's registers: of wider ones GCC makes detours through memory.
*/

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PADDED 16 /* on any processor, so that the same numbers are drawn for the same weights */
#define ROWS 6    /* rows of a tile, with BAND vectors of columns each: sums that stay in registers */

#if defined __AVX512F__ /* 32 registers of 16 floats */
#define LANES 16        /* floats of a vector */
#define BAND 4
#elif defined __AVX__ /* 16 of 8 */
#define LANES 8
#define BAND 2
#elif defined __aarch64__ /* 32 of 4 */
#define LANES 4
#define BAND 4
#else /* 16 of 4, or whatever the compiler makes of them */
#define LANES 4
#define BAND 2
#endif

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef float loose_floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint64_t words __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE floats all(float value) { return value - (floats){}; }
INLINE floats where(ints mask, floats value) { return (floats)(mask & (ints)value); }

INLINE float sum(floats value) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += value[lane];
    return total;
}

INLINE float largest(floats value) {
    float found = value[0];
    for (int lane = 1; lane < LANES; lane++) found = value[lane] > found ? value[lane] : found;
    return found;
}

/* e to the power of x <= 0: 2^whole times a polynomial of what is left, within 2 units of the last place. */
INLINE floats exponential(floats x) {
    x = where(x >= -87.0f, x) + where(x < -87.0f, all(-87.0f));
    floats scaled = x * 1.44269504f;
    floats shifted = scaled + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number, which stands in the last bits */
    floats whole = shifted - 12582912.0f;
    floats rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    floats power = all(1.9875691500e-4f);
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    return (floats)((ints)power + (((ints)shifted) << 23));
}

/* SFC64 of Chris Doty-Humphrey (PractRand), eight generators side by side: 32 numbers of 16 bits at a time. */
#define PARTS (16 / LANES) /* vectors that the state of eight takes */

typedef struct { words a[PARTS], b[PARTS], c[PARTS], count; } Generator;

typedef union { words drawn[PARTS]; halves numbers[32 / LANES]; } Bits;

INLINE Bits next(Generator *g) {
    Bits out;
    for (int n = 0; n < PARTS; n++) {
        out.drawn[n] = g->a[n] + g->b[n] + g->count;
        g->a[n] = g->b[n] ^ (g->b[n] >> 11);
        g->b[n] = g->c[n] + (g->c[n] << 3);
        g->c[n] = ((g->c[n] << 24) | (g->c[n] >> 40)) + out.drawn[n];
    }
    g->count += 1;
    return out;
}

static Generator seeded(uint64_t seed, uint64_t stream) {
    Generator g;
    for (int n = 0; n < PARTS; n++) {
        g.a[n] = seed - (words){};
        g.b[n] = stream - (words){};
        for (int lane = 0; lane < LANES / 2; lane++) g.c[n][lane] = n * (LANES / 2) + lane;
    }
    g.count = 1 - (words){};
    for (int round = 0; round < 18; round++) next(&g);
    return g;
}

/* rows x (vectors * LANES) of out = left right; left's element (i, k) is left[i * down + k * along]. */
INLINE void tile(int rows, int vectors, long depth, const float *left, long down, long along, const float *right,
                 long right_width, float *out, long out_width, float factor) {
    floats sums[ROWS][BAND];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sums[i][j] = (floats){};
    for (long k = 0; k < depth; k++) {
        floats row[BAND];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) row[j] = *(const loose_floats *)(right + k * right_width + j * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            floats one = all(left[i * down + k * along]);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) sums[i][j] += one * row[j];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) *(loose_floats *)(out + i * out_width + j * LANES) = sums[i][j] * factor;
}

#define TILE(R, V) tile(R, V, depth, left, down, along, right, right_width, out, out_width, factor)
#if BAND == 4
#define WIDER(R) \
    case 4: TILE(R, 4); break; \
    case 3: TILE(R, 3); break;
#else
#define WIDER(R)
#endif
#define TILES(R) \
    switch (vectors) { \
        WIDER(R) \
        case 2: TILE(R, 2); break; \
        default: TILE(R, 1); \
    }

static void band(int rows, int vectors, long depth, const float *left, long down, long along, const float *right,
                 long right_width, float *out, long out_width, float factor) {
    switch (rows) {
        case 6: TILES(6) break;
        case 5: TILES(5) break;
        case 4: TILES(4) break;
        case 3: TILES(3) break;
        case 2: TILES(2) break;
        default: TILES(1)
    }
}

/* rows x columns of out = factor * left right, as above; columns in whole vectors. */
static void product(long rows, long columns, long depth, const float *left, long down, long along, const float *right,
                    long right_width, float *out, long out_width, float factor) {
    for (long j = 0; j < columns; j += BAND * LANES) {
        long vectors = (columns - j) / LANES;
        for (long i = 0; i < rows; i += ROWS)
            band(rows - i < ROWS ? rows - i : ROWS, vectors < BAND ? vectors : BAND, depth, left + i * down, down,
                 along, right + j, right_width, out + i * out_width + j, out_width, factor);
    }
}

/* out, depth x padded = rows', with zeros behind the last. */
static void transpose(long length, long padded, long depth, const float *rows, long width, float *out) {
    for (long first = 0; first < padded; first += LANES) {
        long lanes = length - first < LANES ? length - first : LANES;
        for (long k = 0; k < depth; k++) {
            floats column = {};
            if (lanes == LANES) /* a loop of known length is unrolled */
                for (long i = 0; i < LANES; i++) column[i] = rows[(first + i) * width + k];
            else
                for (long i = 0; i < lanes; i++) column[i] = rows[(first + i) * width + k];
            *(floats *)(out + k * padded + first) = column;
        }
    }
}

static long padded_length(long length) { return (length + PADDED - 1) / PADDED * PADDED; }

static float *room(long count) { return aligned_alloc(64, (sizeof(float) * count + 63) / 64 * 64); }

/* What a batch is: text t has the rows offsets[t] to offsets[t + 1], its weights begin at places[t] of `kept`. */
typedef struct {
    const int64_t *offsets, *places;
    int64_t heads, depth, causal;
    uint64_t seed;
    uint32_t threshold; /* of 65,536: a weight is dropped if what is drawn for it is below */
    float factor;
} Batch;

/* A head of a text: its first row of each matrix, whose rows are `width` floats apart. */
typedef struct {
    const float *query, *key, *value;
    long length, depth, width;
} Head;

static Head head_of(const Batch *b, long text, long head, const float *query, const float *key, const float *value) {
    long width = b->heads * b->depth, at = b->offsets[text] * width + head * b->depth;
    return (Head){query + at, key + at, value + at, b->offsets[text + 1] - b->offsets[text], b->depth, width};
}

/* answer: as the head's matrices. kept: its weights, or NULL. turned, used: room for its keys, a block's weights. */
static void forward_head(Head h, const Batch *b, Generator *noise, float *answer, float *kept, float *turned,
                         float *used) {
    long length = h.length, depth = h.depth, width = h.width, padded = padded_length(length);
    transpose(length, padded, depth, h.key, width, turned);
    for (long first = 0; first < length; first += ROWS) {
        long rows = length - first < ROWS ? length - first : ROWS;
        float *block = kept ? kept + first * padded : used;
        product(rows, padded, depth, h.query + first * width, width, 1, turned, padded, block, padded,
                1 / sqrtf(depth));
        for (long i = 0; i < rows; i++) {
            float *row = block + i * padded;
            floats *vectors = (floats *)row, *out = (floats *)(used + i * padded);
            for (long j = b->causal ? first + i + 1 : length; j < padded; j++) row[j] = -INFINITY;
            floats most = vectors[0], doubt = vectors[0];
            for (long j = 1; j < padded / LANES; j++) {
                most = where(vectors[j] > most, vectors[j]) + where(vectors[j] <= most, most);
                doubt += vectors[j];
            }
            float top = largest(most);
            int is_number = !isnan(sum(doubt)) && isfinite(top); /* else training went astray, and must show it */
            floats total = {};
            for (long j = 0; j < padded / LANES; j++) {
                floats e = where(vectors[j] > -INFINITY, exponential(vectors[j] - top));
                total += e;
                vectors[j] = e;
            }
            float share = is_number ? 1 / sum(total) : NAN;
            if (!b->threshold) {
                for (long j = 0; j < padded / LANES; j++) out[j] = vectors[j] = vectors[j] * share;
                continue;
            }
            for (long j = 0; j < padded / LANES; j += 32 / LANES) {
                Bits bits = next(noise);
                for (long n = 0; n < 32 / LANES && j + n < padded / LANES; n++) {
                    ints stays = __builtin_convertvector(bits.numbers[n], ints) >= (int32_t)b->threshold;
                    floats weight = vectors[j + n] * share;
                    vectors[j + n] = (floats)((ints)weight | (~stays & INT32_MIN));
                    out[j + n] = where(stays, weight); /* after it: where nothing is kept, both are one place */
                }
            }
        }
        product(rows, depth, length, used, padded, 1, h.value, width, answer + first * width, width, b->factor);
    }
}

/* of_*: the gradients of a head, as its matrices. used, of_scores: room for all its weights, and for their gradient. */
static void backward_head(Head h, float factor, const float *kept, const float *of_answer, float *of_query,
                          float *of_key, float *of_value, float *turned, float *used, float *of_scores) {
    long length = h.length, depth = h.depth, width = h.width, padded = padded_length(length);
    transpose(length, padded, depth, h.value, width, turned);
    for (long first = 0; first < length; first += ROWS) {
        long rows = length - first < ROWS ? length - first : ROWS;
        float *block = of_scores + first * padded;
        product(rows, padded, depth, of_answer + first * width, width, 1, turned, padded, block, padded, factor);
        for (long i = 0; i < rows; i++) {
            floats *gradient = (floats *)(block + i * padded), *out = (floats *)(used + (first + i) * padded);
            const floats *weights = (const floats *)(kept + (first + i) * padded);
            floats total = {};
            for (long j = 0; j < padded / LANES; j++) {
                ints stays = (ints)weights[j] >= 0;
                gradient[j] = where(stays, gradient[j]);
                out[j] = where(stays, weights[j]);
                total += gradient[j] * out[j];
            }
            floats mean = all(sum(total));
            for (long j = 0; j < padded / LANES; j++)
                gradient[j] = (floats)((ints)weights[j] & INT32_MAX) * (gradient[j] - mean);
        }
        product(rows, depth, length, block, padded, 1, h.key, width, of_query + first * width, width,
                1 / sqrtf(depth));
    }
    product(length, depth, length, of_scores, 1, padded, h.query, width, of_key, width, 1 / sqrtf(depth));
    product(length, depth, length, used, 1, padded, of_answer, width, of_value, width, factor);
}

static long longest_of(const Batch *b, long first, long last) {
    long longest = 0;
    for (long t = first; t < last; t++) {
        long length = b->offsets[t + 1] - b->offsets[t];
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* Both return 0, or 1 where there is no memory. */
int forward(const Batch *b, long first, long last, const float *query, const float *key, const float *value,
            float *answer, float *kept) {
    long longest = longest_of(b, first, last), padded = padded_length(longest);
    float *scratch = room((b->depth + ROWS) * padded);
    if (!scratch) return 1;
    float *turned = scratch, *used = scratch + b->depth * padded;
    for (long t = first; t < last; t++)
        for (long head = 0; head < b->heads; head++) {
            Head h = head_of(b, t, head, query, key, value);
            Generator noise = seeded(b->seed, t * b->heads + head);
            float *weights = kept ? kept + b->places[t] + head * h.length * padded_length(h.length) : NULL;
            forward_head(h, b, &noise, answer + (h.query - query), weights, turned, used);
        }
    free(scratch);
    return 0;
}

int backward(const Batch *b, long first, long last, const float *query, const float *key, const float *value,
             const float *kept, const float *of_answer, float *of_query, float *of_key, float *of_value) {
    long longest = longest_of(b, first, last), padded = padded_length(longest);
    float *scratch = room((b->depth + 2 * longest) * padded);
    if (!scratch) return 1;
    float *turned = scratch, *used = scratch + b->depth * padded, *of_scores = used + longest * padded;
    for (long t = first; t < last; t++)
        for (long head = 0; head < b->heads; head++) {
            Head h = head_of(b, t, head, query, key, value);
            long at = h.query - query;
            const float *weights = kept + b->places[t] + head * h.length * padded_length(h.length);
            backward_head(h, b->factor, weights, of_answer + at, of_query + at, of_key + at, of_value + at, turned,
                          used, of_scores);
        }
    free(scratch);
    return 0;
}
