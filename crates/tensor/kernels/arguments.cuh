// What kernels are launched with: plain structures, one a family, with pointers first. Rows of a
// tensor lie `…_stride` elements apart.
#pragma once

#include "common.cuh"

/// What happens to rows before they are multiplied, or to rows of the result.
enum Norm { NORM_NONE, NORM_ROOT_MEAN_SQUARE, NORM_LAYER };

/// Weights `[outputs, inputs]` and their bias.
struct LayerArguments {
    const void *weights;
    const float *bias;
};

/// Layers of one launch.
constexpr unsigned LAYERS_MAX = 16;

/// Products of the weights of layers of one shape, along the grid's third axis, with rows, which
/// are windows over a plane `[height · width, channels]` of `x`: a linear layer has windows of one
/// place, a convolution over time has sequences of `width` rows, one a row of the plane. The
/// results of the layers lie one behind the other in `out`.
struct ProductArguments {
    const float *x;
    /// α by channel of a Snake over the input.
    const float *alpha;
    /// Of a norm, where there is one.
    const float *norm_scale;
    const float *norm_shift;
    /// One row that is added to all of a result that was normalised.
    const float *row;
    float *out;
    LayerArguments layers[LAYERS_MAX];
    unsigned rows;
    unsigned outputs;
    unsigned inputs;
    unsigned x_stride;
    unsigned out_stride;
    unsigned channels;
    unsigned height;
    unsigned width;
    unsigned out_width;
    unsigned kernel_width;
    unsigned stride_down;
    unsigned stride_across;
    unsigned dilation;
    unsigned padding_down;
    unsigned padding_across;
    unsigned norm;
    float epsilon;
    unsigned activation;
    float slope;
    /// Whether the result is added to what `out` held.
    unsigned add;
};

/// A product of weights `[outputs, inputs]` with rows that are normalised first if asked to.
struct RowsArguments {
    const float *x;
    const void *weights;
    const float *bias;
    const float *norm_scale;
    const float *norm_shift;
    float *out;
    unsigned rows;
    unsigned outputs;
    unsigned inputs;
    unsigned x_stride;
    unsigned out_stride;
    unsigned norm;
    float epsilon;
    unsigned activation;
    float slope;
    unsigned add;
};

/// Pages of one run of positions of a sequence: position `p` of them is row `p % positions_a_page`
/// of page `p / positions_a_page`.
struct CacheStretch {
    unsigned first_page;
    unsigned positions;
    unsigned positions_a_page;
    /// Where the row begins in a layer's part of a page.
    unsigned row_start;
    /// Bytes of the keys, and of the values behind them, of one layer and row in a page.
    unsigned run_bytes;
    unsigned layer_bytes;
};

/// A sequence's positions: those that it shares with others, then its own.
struct CacheSequence {
    CacheStretch prefix;
    CacheStretch own;
};

/// An input row: its sequence, and how many positions of it the row sees, its own included.
struct CacheRow {
    unsigned sequence;
    unsigned length;
    /// Positions whose weights are noted, and the row of the notes.
    unsigned watched_first;
    unsigned watched_count;
    unsigned watched_row;
};

/// How keys and values are stored.
enum CachePrecision { CACHE_F32, CACHE_F16, CACHE_INT8 };

/// Where keys and values are.
struct Places {
    const uint64_t *pages;
    const CacheSequence *sequences;
    const CacheRow *rows;
    unsigned layer;
    unsigned heads;
    /// Channels of a head.
    unsigned size;
    unsigned precision;
};

/// Keys and values to be stored at their rows' last positions.
struct StoreArguments {
    Places places;
    const float *keys;
    const float *values;
    unsigned rows;
    unsigned keys_stride;
    unsigned values_stride;
    unsigned unused;
};

/// Query, key and value of a few rows: norm, product, rotation, and the store into pages.
struct ProjectionArguments {
    RowsArguments product;
    Places places;
    /// `[rows, size / 2]`, or null where nothing is rotated.
    const float *cosines;
    const float *sines;
};

/// Attention of rows over their pasts.
struct PagesArguments {
    Places places;
    const float *q;
    float *out;
    /// `[rows][heads][PARTS][size + 2]`, or null: then a block has all parts of its row and head.
    float *partial;
    /// `[rows][heads]`, zeros before and after: parts that are done.
    unsigned *done;
    /// `[watched heads][watched_rows][watched_stride]`: weights of the rows' watched positions.
    float *watched;
    unsigned rows;
    unsigned q_stride;
    unsigned out_stride;
    float scale;
    unsigned watched_rows;
    unsigned watched_stride;
    /// A byte each, the first in the lowest bits.
    unsigned watched_heads;
    unsigned unused;
};

/// Most sequences of an attention that may see different numbers of keys.
constexpr unsigned SEQUENCES_MAX = 16;

/// Attention of rows over rows, in sequences along the grid's third axis, each of `queries` and
/// `keys` rows.
struct AttentionArguments {
    const float *q;
    const float *k;
    const float *v;
    float *out;
    /// `[queries, heads · size]` and `[2 · keys − 1, heads · size]`, or null.
    const float *relative_queries;
    const float *relative_positions;
    unsigned queries;
    unsigned keys;
    unsigned size;
    unsigned q_stride;
    unsigned k_stride;
    unsigned v_stride;
    unsigned out_stride;
    unsigned relative_queries_stride;
    unsigned relative_positions_stride;
    unsigned causal;
    float scale;
    unsigned unused;
    /// Of each sequence, how many of its first keys are seen; zero stands for `keys`.
    unsigned keys_seen[SEQUENCES_MAX];
};

/// Work on each element of `[rows, columns]`. What `factor`, `scale` and `times` are, each kernel
/// says.
struct ElementArguments {
    const float *x;
    const float *y;
    float *out;
    unsigned rows;
    unsigned columns;
    unsigned x_stride;
    unsigned y_stride;
    unsigned out_stride;
    unsigned activation;
    unsigned times;
    float scale;
    float factor;
    float slope;
};

/// A norm or a softmax of rows.
struct NormArguments {
    const float *x;
    const float *scale;
    const float *shift;
    float *out;
    unsigned rows;
    unsigned columns;
    unsigned x_stride;
    unsigned out_stride;
    unsigned norm;
    float epsilon;
};

/// Rows of tables: `out[row] = table[ids[row / times]] + positions[position_ids[row / times]]`, the
/// second where there is one.
struct EmbeddingArguments {
    const void *table;
    const uint32_t *ids;
    const void *positions;
    const uint32_t *position_ids;
    float *out;
    unsigned rows;
    unsigned columns;
    unsigned outputs;
    unsigned position_outputs;
    unsigned out_stride;
    unsigned times;
};

/// The sums over taps of a transposed convolution: `products` is `[time, kernel · outputs]`.
struct TapsArguments {
    const float *products;
    const float *bias;
    float *out;
    unsigned rows;
    unsigned outputs;
    unsigned time;
    unsigned kernel;
    unsigned stride;
    unsigned padding;
    unsigned out_stride;
    unsigned unused;
};

constexpr unsigned RATES_MAX = 512;

/// Sines and cosines of `(first + row · step) · rates[column]`.
struct SinusoidArguments {
    float *out;
    unsigned rows;
    unsigned rate_count;
    unsigned out_stride;
    /// Whether sine and cosine of a rate stand side by side.
    unsigned pairs;
    float first;
    float step;
    float rates[RATES_MAX];
};

constexpr unsigned FREQUENCIES_MAX = 64;

/// Cosines and sines of `positions[row] · frequencies[column]`.
struct RotaryArguments {
    const uint32_t *positions;
    float *cosines;
    float *sines;
    unsigned rows;
    unsigned frequency_count;
    unsigned cosines_stride;
    unsigned sines_stride;
    float frequencies[FREQUENCIES_MAX];
};

/// Turns pairs of channels of every head.
struct RotateArguments {
    float *x;
    const float *cosines;
    const float *sines;
    unsigned rows;
    unsigned heads;
    unsigned size;
    unsigned x_stride;
    unsigned cosines_stride;
    unsigned sines_stride;
};

/// One layer of an LSTM over sequences of one length.
struct LstmArguments {
    const float *inputs;
    const void *recurrent;
    float *out;
    unsigned time;
    unsigned hidden;
    unsigned inputs_stride;
    unsigned out_stride;
};

/// Sums over rows by column.
struct ColumnArguments {
    const float *x;
    float *out;
    unsigned rows;
    unsigned columns;
    unsigned x_stride;
    unsigned out_stride;
    unsigned segment;
    unsigned unused;
};

/// Numbers by place.
struct NormalsArguments {
    float *out;
    uint64_t seed;
    uint64_t first_row;
    unsigned rows;
    unsigned columns;
    unsigned out_stride;
    unsigned unused;
};

constexpr unsigned HARMONICS_MAX = 16;

/// The harmonic source.
struct HarmonicsArguments {
    const float *f0;
    float *out;
    uint64_t seed;
    uint64_t position;
    uint64_t phases[HARMONICS_MAX];
    unsigned frames;
    unsigned f0_stride;
    unsigned count;
    unsigned samples_per_frame;
    unsigned out_stride;
    float sample_rate;
    float voiced_threshold;
    float sine_amplitude;
    float noise_deviation;
    unsigned unused;
};

/// Short-time spectra of samples, or samples of spectra.
struct SpectrumArguments {
    const float *x;
    float *out;
    unsigned frames;
    unsigned samples;
    unsigned fft;
    unsigned hop;
    unsigned x_stride;
    unsigned out_stride;
    /// Samples of a block.
    unsigned samples_per_block;
    float magnitude_max;
    float sample_max;
    unsigned unused;
};
