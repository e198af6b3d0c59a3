//! Attention of single positions over the KV cache, in one pass with a running maximum (online
//! softmax): scratch does not grow with the length.

use super::instruction_set::{InstructionSet, enter};
use super::maths::{dot, exp};
use super::shared_output::SharedOutput;
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
    let groups = heads.div_ceil(heads_a_task);
    let output = SharedOutput::of(out);
    let set = InstructionSet::best();
    threads.for_each(q.row_count() * groups, |task| {
        let (row, group) = (task / groups, task % groups);
        let first = group * heads_a_task;
        let count = heads_a_task.min(heads - first);
        let q = &q.row(row)[first * size..][..count * size];
        // SAFETY: each task has its own row and heads.
        let out = unsafe { output.row(row, first * size, count * size) };
        let task = Task {
            q,
            parts: places.parts(row, layer),
            layout,
            scale,
            first,
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, HEADS, RunningSoftmax, Task};
    use crate::cpu::kernel::Element;
    use crate::cpu::lanes::prefetch_far;
    use half::f16;
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    /// The part of a stored row for one head, and the scale of its elements.
    pub(super) trait Stored: Element + bytemuck::AnyBitPattern {
        fn head(row: &[u8], heads: usize, head: usize, size: usize) -> (&[Self], f32) {
            let _ = heads;
            let values: &[Self] = bytemuck::cast_slice(row);
            (&values[head * size..][..size], 1.0)
        }
    }

    impl Stored for f32 {}
    impl Stored for f16 {}
    impl Stored for i8 {
        fn head(row: &[u8], heads: usize, head: usize, size: usize) -> (&[i8], f32) {
            let (scale, levels) = crate::cache::head_of_int8(row, heads, head, size);
            (bytemuck::cast_slice(levels), scale)
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn dot<E: Element>(q: &[f32], row: &[E]) -> f32 {
        assert_eq!(q.len(), row.len());
        let mut sum = _mm512_setzero_ps();
        for place in (0..q.len() / 16 * 16).step_by(16) {
            // SAFETY: sixteen elements from `place` on are inside both slices.
            unsafe {
                let values = E::load(row.as_ptr().add(place));
                sum = _mm512_fmadd_ps(values, _mm512_loadu_ps(q.as_ptr().add(place)), sum);
            }
        }
        _mm512_reduce_add_ps(sum)
    }

    /// Adds weighted rows to `out` one after the other, in `VECTORS` vectors from `place` on, which
    /// stay in registers meanwhile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add<E: Element, const VECTORS: usize>(
        weights: &[f32],
        rows: &[&[E]],
        place: usize,
        out: &mut [f32],
    ) {
        assert!(place + 16 * VECTORS <= out.len());
        assert!(rows.iter().all(|row| row.len() == out.len()));
        // SAFETY: all vectors from `place` on are inside `out` and inside every row.
        unsafe {
            let out = out.as_mut_ptr().add(place);
            let mut sums = [_mm512_setzero_ps(); VECTORS];
            for (vector, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(out.add(16 * vector));
            }
            for (&weight, row) in weights.iter().zip(rows) {
                let weight = _mm512_set1_ps(weight);
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let values = E::load(row.as_ptr().add(place + 16 * vector));
                    *sum = _mm512_fmadd_ps(values, weight, *sum);
                }
            }
            for (vector, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(out.add(16 * vector), sum);
            }
        }
    }

    /// Fetches a head's part of a row into the L2 cache: rows are longer than what a task reads of
    /// them, so that the processor's own prefetching does not follow.
    #[inline(always)]
    fn prefetch_head<E>(row: &[E]) {
        let start: *const u8 = row.as_ptr().cast();
        for line in (0..size_of_val(row)).step_by(64) {
            prefetch_far(start.wrapping_add(line));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    pub(super) fn attend<'a, E: Stored>(task: &Task<'a>, out: &mut [f32]) {
        let (heads, size) = (task.layout.heads, task.layout.size);
        let row_bytes = task.layout.row_bytes();
        let mut softmax = [RunningSoftmax::START; HEADS];
        out.fill(0.0);
        let mut blocks = task.blocks();
        let mut next = blocks.next();
        while let Some(block) = next {
            next = blocks.next();
            for (index, (q, out)) in
                (task.q.chunks_exact(size).zip(out.chunks_exact_mut(size))).enumerate()
            {
                let head = task.first + index;
                if let Some(next) = next {
                    let rows = |bytes: &'a [u8]| bytes.chunks_exact(row_bytes);
                    for row in rows(next.keys).chain(rows(next.values)) {
                        prefetch_head(E::head(row, heads, head, size).0);
                    }
                }
                let mut weights = [f32::NEG_INFINITY; BLOCK];
                let count = block.positions;
                for (weight, row) in weights.iter_mut().zip(block.keys.chunks_exact(row_bytes)) {
                    let (row, factor) = E::head(row, heads, head, size);
                    *weight = task.scale * factor * dot(q, row);
                }
                // Positions past `count` have weight 0.
                let shrink = softmax[index].weigh(&mut weights);
                out.iter_mut().for_each(|out| *out *= shrink);
                let mut rows: [&[E]; BLOCK] = [&[]; BLOCK];
                let stored = block.values.chunks_exact(row_bytes);
                for ((weight, row), stored) in weights.iter_mut().zip(&mut rows).zip(stored) {
                    let (values, factor) = E::head(stored, heads, head, size);
                    *weight *= factor;
                    *row = values;
                }
                let (weights, rows) = (&weights[..count], &rows[..count]);
                let wide = size / 64 * 64;
                for place in (0..wide).step_by(64) {
                    add::<E, 4>(weights, rows, place, out);
                }
                for place in (wide..size).step_by(16) {
                    add::<E, 1>(weights, rows, place, out);
                }
            }
        }
        for (softmax, out) in softmax.iter().zip(out.chunks_exact_mut(size)) {
            softmax.normalise(out);
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
