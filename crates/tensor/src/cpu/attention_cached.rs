//! Attention of single positions over the KV cache, in one pass with a running maximum (online
//! softmax): scratch does not grow with the length.

use super::instruction_set::{InstructionSet, enter};
use super::maths::{dot, exp};
use super::output::{Cuts, Grid, OutputPart, for_each_part};
use crate::cache::{CacheLayout, CachePlaces, CachedPart, CachedParts};
use crate::threads::Threads;
use crate::view::{View, ViewMut};

/// Channels of the heads of one task.
const COLUMNS: usize = 512;
/// Heads of one task.
const HEADS: usize = 64;
/// Positions between two updates of the running maximum; parts are cut at multiples of it from
/// their own start.
const BLOCK: usize = 16;

/// Each row of `q` attends to its cached past in a layer, its own position included.
pub(crate) fn attention_cached(
    threads: &Threads,
    q: View<'_>,
    layer: usize,
    places: &CachePlaces<'_>,
    scale: f32,
    out: ViewMut<'_>,
) {
    let layout = places.layout();
    let CacheLayout { heads, size, .. } = layout;
    assert!(
        size <= COLUMNS,
        "heads of {size} channels, at most {COLUMNS}"
    );
    let heads_a_task = (COLUMNS / size).min(heads.div_ceil(2)).min(HEADS);
    let grid = Grid {
        columns: Cuts::every(heads * size, heads_a_task * size),
        ..Grid::of_rows(Cuts::every(q.row_count(), 1), heads * size)
    };
    let mut out = OutputPart::of(out);
    let set = InstructionSet::best();
    // Of many rows, the first brings what the others read into the caches.
    let fetches_ahead = q.row_count() <= places.sequences().len();
    for_each_part(threads, &mut out, grid, |cell, mut out| {
        let row = cell.rows.start;
        let first = cell.columns.start / size;
        let out = out.row(0);
        let task = Task {
            q: &q.row(row)[cell.columns],
            parts: places.parts(row, layer),
            layout,
            scale,
            first,
            fetches_ahead,
        };
        enter!(
            floats set,
            [] (task: &Task<'_>, out: &mut [f32]) -> [],
            [] (&task, out),
            avx512_attend(task, out),
            attend(task, out),
            attend(&task, out)
        );
    });
}

struct Task<'a> {
    q: &'a [f32],
    parts: CachedParts<'a>,
    layout: CacheLayout,
    scale: f32,
    /// The first head.
    first: usize,
    /// Whether a block is fetched while the one before is computed.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only kernels for AVX-512 fetch blocks")
    )]
    fetches_ahead: bool,
}

impl<'a> Task<'a> {
    /// The parts, cut into blocks.
    #[inline(always)]
    fn blocks(&self) -> impl Iterator<Item = CachedPart<'a>> + use<'a> {
        let row_bytes = self.layout.row_bytes();
        self.parts.clone().flat_map(move |part| {
            (0..part.positions).step_by(BLOCK).map(move |start| {
                let positions = BLOCK.min(part.positions - start);
                let range = start * row_bytes..(start + positions) * row_bytes;
                CachedPart {
                    keys: &part.keys[range.clone()],
                    values: &part.values[range],
                    positions,
                }
            })
        })
    }
}

/// Online softmax of one head's scores.
#[derive(Clone, Copy)]
struct RunningSoftmax {
    /// The largest score so far.
    largest: f32,
    /// The sum of the weights so far.
    total: f32,
}

impl RunningSoftmax {
    const START: RunningSoftmax = RunningSoftmax {
        largest: f32::NEG_INFINITY,
        total: 0.0,
    };

    /// Replaces further scores by their weights. Returns the factor for what was weighted before.
    #[inline(always)]
    fn weigh(&mut self, scores: &mut [f32]) -> f32 {
        let largest = scores
            .iter()
            .fold(self.largest, |most, &score| most.max(score));
        let shrink = exp::<false>(self.largest - largest);
        self.largest = largest;
        scores
            .iter_mut()
            .for_each(|score| *score = exp::<false>(*score - largest));
        self.total = self.total * shrink + scores.iter().sum::<f32>();
        shrink
    }

    /// Divides the weighted sum by the weights' sum.
    #[inline(always)]
    fn normalise(&self, out: &mut [f32]) {
        let factor = 1.0 / self.total;
        out.iter_mut().for_each(|out| *out *= factor);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
fn avx512_attend(task: &Task<'_>, out: &mut [f32]) {
    use crate::cache::CachePrecision;
    if !task.layout.size.is_multiple_of(16) {
        return attend(task, out);
    }
    match task.layout.precision {
        CachePrecision::F32 => x86::attend::<f32>(task, out),
        CachePrecision::F16 => x86::attend::<half::f16>(task, out),
        CachePrecision::Int8 => x86::attend::<i8>(task, out),
    }
}

/// Blocks of 16 positions, whose scores fill a register.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, HEADS, RunningSoftmax, Task};
    use crate::cache::CachedPart;
    use crate::cpu::kernel::Element;
    use crate::cpu::lanes::prefetch_far;
    use crate::cpu::maths::exp;
    use half::f16;
    use std::arch::x86_64::*;

    /// Elements of a stored row.
    pub(super) trait Stored: Element {
        /// Bytes of a row before a head's elements.
        fn offset(_heads: usize, head: usize, size: usize) -> usize {
            head * size * size_of::<Self>()
        }

        /// The step between a head's levels; none for floats.
        fn step(_row: &[u8], _heads: usize, _head: usize, _size: usize) -> Option<f32> {
            None
        }
    }

    impl Stored for f32 {}
    impl Stored for f16 {}
    impl Stored for i8 {
        fn offset(heads: usize, head: usize, size: usize) -> usize {
            crate::cache::scales_bytes(heads) + head * size
        }

        fn step(row: &[u8], heads: usize, head: usize, size: usize) -> Option<f32> {
            Some(crate::cache::head_of_int8(row, heads, head, size).0)
        }
    }

    /// One head's part of the rows of a block.
    #[derive(Clone, Copy)]
    struct HeadRows<'a, E> {
        /// The rows, whole.
        bytes: &'a [u8],
        row_bytes: usize,
        heads: usize,
        head: usize,
        size: usize,
        /// Bytes of a row before the head's elements.
        offset: usize,
        elements: std::marker::PhantomData<E>,
    }

    impl<'a, E: Stored> HeadRows<'a, E> {
        #[inline(always)]
        fn new(task: &Task<'_>, bytes: &'a [u8], head: usize) -> Self {
            let (heads, size) = (task.layout.heads, task.layout.size);
            let (row_bytes, offset) = (task.layout.row_bytes(), E::offset(heads, head, size));
            assert!(offset + size * size_of::<E>() <= row_bytes && bytes.len() >= row_bytes);
            HeadRows {
                bytes,
                row_bytes,
                heads,
                head,
                size,
                offset,
                elements: std::marker::PhantomData,
            }
        }

        /// The head's elements in a row; past the end, those of the first row.
        #[inline(always)]
        fn row(&self, index: usize) -> *const E {
            let start = index * self.row_bytes;
            let start = if start < self.bytes.len() { start } else { 0 };
            self.bytes[start + self.offset..].as_ptr().cast()
        }

        /// Multiplies each row's number by the step of its levels.
        #[inline(always)]
        fn scale(&self, numbers: &mut [f32; BLOCK]) {
            for (number, row) in numbers
                .iter_mut()
                .zip(self.bytes.chunks_exact(self.row_bytes))
            {
                match E::step(row, self.heads, self.head, self.size) {
                    Some(step) => *number *= step,
                    None => return,
                }
            }
        }

        /// Fetches the rows into the L2 cache: they are longer than what a task reads of them, so
        /// that the processor's own prefetching does not follow.
        #[inline(always)]
        fn prefetch(&self) {
            for start in (self.offset..self.bytes.len()).step_by(self.row_bytes) {
                let row = self.bytes.as_ptr().wrapping_add(start);
                for line in (0..self.size * size_of::<E>()).step_by(64) {
                    prefetch_far(row.wrapping_add(line));
                }
            }
        }
    }

    /// Products of a query with each row of a block; those past its end have no meaning.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn dots<E: Stored>(q: &[f32], keys: HeadRows<'_, E>) -> __m512 {
        assert!(q.len() == keys.size && keys.size.is_multiple_of(16));
        let rows: [*const E; BLOCK] = std::array::from_fn(|index| keys.row(index));
        let mut sums = [_mm512_setzero_ps(); BLOCK];
        for place in (0..q.len()).step_by(16) {
            // SAFETY: sixteen elements from `place` on are inside the query and inside the head's
            // part of every row.
            unsafe {
                let q = _mm512_loadu_ps(q.as_ptr().add(place));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_fmadd_ps(E::load(row.add(place)), q, *sum);
                }
            }
        }
        sums_of_lanes(sums)
    }

    /// The sum of each vector's lanes, by halves: lanes 8 apart first, then 4, 2 and 1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn sums_of_lanes(v: [__m512; BLOCK]) -> __m512 {
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        let eights = |x: __m512, y: __m512| {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(x, y);
            _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(x, y))
        };
        let fours = |x: __m512, y: __m512| {
            let even = _mm512_shuffle_f32x4::<EVEN>(x, y);
            _mm512_add_ps(even, _mm512_shuffle_f32x4::<ODD>(x, y))
        };
        let twos = |x: __m512, y: __m512| {
            let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)))
        };
        let ones = |x: __m512, y: __m512| {
            let even = _mm512_shuffle_ps::<EVEN>(x, y);
            _mm512_add_ps(even, _mm512_shuffle_ps::<ODD>(x, y))
        };
        // Four vectors whose sums end in four lanes four apart.
        let apart = |n: usize| fours(eights(v[n], v[n + 4]), eights(v[n + 8], v[n + 12]));
        ones(twos(apart(0), apart(1)), twos(apart(2), apart(3)))
    }

    /// Multiplies `out` by `shrink` and adds weighted rows one after the other, in `VECTORS`
    /// vectors from `place` on, which stay in registers meanwhile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add<E: Stored, const VECTORS: usize>(
        shrink: f32,
        weights: &[f32],
        values: HeadRows<'_, E>,
        place: usize,
        out: &mut [f32],
    ) {
        assert!(place + 16 * VECTORS <= out.len() && out.len() == values.size);
        // SAFETY: all vectors from `place` on are inside `out` and inside the head's part of every
        // row.
        unsafe {
            let out = out.as_mut_ptr().add(place);
            let shrink = _mm512_set1_ps(shrink);
            let mut sums = [_mm512_setzero_ps(); VECTORS];
            for (vector, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_mul_ps(_mm512_loadu_ps(out.add(16 * vector)), shrink);
            }
            for (index, &weight) in weights.iter().enumerate() {
                let row = values.row(index).add(place);
                let weight = _mm512_set1_ps(weight);
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_fmadd_ps(E::load(row.add(16 * vector)), weight, *sum);
                }
            }
            for (vector, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(out.add(16 * vector), sum);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    pub(super) fn attend<E: Stored>(task: &Task<'_>, out: &mut [f32]) {
        let size = task.layout.size;
        let count = task.q.len() / size;
        assert!(count <= HEADS && out.len() == count * size);
        let mut softmax = [RunningSoftmax::START; HEADS];
        out.fill(0.0);
        let mut blocks = task.blocks();
        let mut next = blocks.next();
        while let Some(block) = next {
            next = blocks.next();
            let ahead = next.filter(|_| task.fetches_ahead);
            attend_block::<E>(task, block, ahead, &mut softmax[..count], out);
        }
        for (softmax, out) in softmax.iter().zip(out.chunks_exact_mut(size)) {
            softmax.normalise(out);
        }
    }

    /// One block's part of the attention of all heads of a task. The weights of all heads come
    /// before their values, because each head's sum has to wait for itself only.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    fn attend_block<E: Stored>(
        task: &Task<'_>,
        block: CachedPart<'_>,
        ahead: Option<CachedPart<'_>>,
        softmax: &mut [RunningSoftmax],
        out: &mut [f32],
    ) {
        let size = task.layout.size;
        let present = ((1_u32 << block.positions) - 1) as __mmask16;
        let mut weights = [[0.0_f32; BLOCK]; HEADS];
        let weights = &mut weights[..softmax.len()];
        let mut shrinks = [0.0_f32; HEADS];
        let shrinks = &mut shrinks[..softmax.len()];
        let heads = softmax.iter_mut().zip(&mut *weights).zip(&mut *shrinks);
        for (index, ((softmax, weights), shrink)) in heads.enumerate() {
            let head = task.first + index;
            if let Some(ahead) = ahead {
                HeadRows::<E>::new(task, ahead.keys, head).prefetch();
            }
            let keys = HeadRows::<E>::new(task, block.keys, head);
            let dots = dots(&task.q[index * size..][..size], keys);
            let mut scales = [task.scale; BLOCK];
            keys.scale(&mut scales);
            // SAFETY: an array is a register long.
            unsafe {
                let scores = _mm512_mul_ps(_mm512_loadu_ps(scales.as_ptr()), dots);
                // Positions past the block have weight 0.
                let none = _mm512_set1_ps(f32::NEG_INFINITY);
                let scores = _mm512_mask_blend_ps(present, none, scores);
                let before = _mm512_set1_ps(softmax.largest);
                // In this order NaN is passed over.
                let largest = _mm512_reduce_max_ps(_mm512_max_ps(scores, before));
                *shrink = softmax.largest - largest;
                softmax.largest = largest;
                let below = _mm512_sub_ps(scores, _mm512_set1_ps(largest));
                _mm512_storeu_ps(weights.as_mut_ptr(), below);
            }
            weights
                .iter_mut()
                .for_each(|weight| *weight = exp::<false>(*weight));
        }
        shrinks
            .iter_mut()
            .for_each(|shrink| *shrink = exp::<false>(*shrink));
        let mut totals = [-0.0_f32; HEADS];
        for position in 0..BLOCK {
            for (total, weights) in totals.iter_mut().zip(&*weights) {
                *total += weights[position];
            }
        }
        for ((softmax, &shrink), total) in softmax.iter_mut().zip(&*shrinks).zip(totals) {
            softmax.total = softmax.total * shrink + total;
        }
        let heads = weights
            .iter_mut()
            .zip(shrinks)
            .zip(out.chunks_exact_mut(size));
        for (index, ((weights, &mut shrink), out)) in heads.enumerate() {
            let head = task.first + index;
            if let Some(ahead) = ahead {
                HeadRows::<E>::new(task, ahead.values, head).prefetch();
            }
            let values = HeadRows::<E>::new(task, block.values, head);
            values.scale(weights);
            let weights = &weights[..block.positions];
            let wide = size / 64 * 64;
            for place in (0..wide).step_by(64) {
                add::<E, 4>(shrink, weights, values, place, out);
            }
            for place in (wide..size).step_by(16) {
                add::<E, 1>(shrink, weights, values, place, out);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_block_of_vectors_is_summed_in_the_order_of_one() {
            if !is_x86_feature_detected!("avx512dq") {
                return;
            }
            let numbers: [[f32; 16]; BLOCK] = std::array::from_fn(|row| {
                std::array::from_fn(|lane| ((row * 31 + lane * 17) % 23) as f32 * 0.37 - 3.1)
            });
            let mut found = [0.0; BLOCK];
            // SAFETY: the feature was detected; arrays are registers long.
            let expected = unsafe {
                let vectors = numbers.map(|row| _mm512_loadu_ps(row.as_ptr()));
                _mm512_storeu_ps(found.as_mut_ptr(), sums_of_lanes(vectors));
                vectors.map(|vector| _mm512_reduce_add_ps(vector))
            };
            assert_eq!(found, expected);
        }
    }
}

#[inline(always)]
fn attend(task: &Task<'_>, out: &mut [f32]) {
    let CacheLayout {
        heads,
        size,
        precision,
    } = task.layout;
    let row_bytes = task.layout.row_bytes();
    let columns = out.len();
    let mut rows = [0.0_f32; BLOCK * COLUMNS];
    let mut softmax = [RunningSoftmax::START; HEADS];
    out.fill(0.0);
    for block in task.blocks() {
        let count = block.positions;
        let read = |bytes: &[u8], rows: &mut [f32]| {
            let rows = rows.chunks_exact_mut(columns);
            for (row, bytes) in rows.zip(bytes.chunks_exact(row_bytes)) {
                precision.decode(bytes, heads, size, task.first, row);
            }
        };
        let mut weights = [0.0_f32; BLOCK * HEADS];
        read(block.keys, &mut rows);
        for (head, q) in task.q.chunks_exact(size).enumerate() {
            let weights = &mut weights[head * BLOCK..][..count];
            for (index, weight) in weights.iter_mut().enumerate() {
                let key = &rows[index * columns + head * size..][..size];
                *weight = task.scale * dot(q, key);
            }
            let shrink = softmax[head].weigh(weights);
            let out = &mut out[head * size..][..size];
            out.iter_mut().for_each(|out| *out *= shrink);
        }
        read(block.values, &mut rows);
        for (head, out) in out.chunks_exact_mut(size).enumerate() {
            for index in 0..count {
                let weight = weights[head * BLOCK + index];
                let value = &rows[index * columns + head * size..][..size];
                (out.iter_mut().zip(value)).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
    for (softmax, out) in softmax.iter().zip(out.chunks_exact_mut(size)) {
        softmax.normalise(out);
    }
}

/// Rotates the pairs (c, c + size / 2) of every head by a row's angles.
pub(crate) fn rotate(mut x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>) {
    let size = x.column_count() / heads;
    for index in 0..x.row_count() {
        let (cosines, sines) = (cosines.row(index), sines.row(index));
        for head in x.row_mut(index).chunks_exact_mut(size) {
            let (left, right) = head.split_at_mut(size / 2);
            for (((left, right), &cosine), &sine) in
                left.iter_mut().zip(right).zip(cosines).zip(sines)
            {
                (*left, *right) = (
                    *left * cosine - *right * sine,
                    *right * cosine + *left * sine,
                );
            }
        }
    }
}
