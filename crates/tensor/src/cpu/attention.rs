//! Attention of many queries, blocked by head and by queries: scores exist for one block at a time.
//! An [`AttentionKernel`] computes a block; one exists for f32 and one for integers.

use super::output::{Cuts, Grid, OutputPart, for_each_part, share_parts};
use crate::operations::Attention;
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use std::ops::Range;

/// Sizes of an attention.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) heads: usize,
    /// Channels per head.
    pub(crate) size: usize,
    causal: bool,
}

impl Sizes {
    pub(crate) fn of(
        queries: usize,
        keys: usize,
        columns: usize,
        options: &Attention<'_>,
    ) -> Sizes {
        Sizes {
            queries,
            keys,
            heads: options.heads,
            size: columns / options.heads,
            causal: options.causal,
        }
    }

    /// Number of keys, from the first one on, to which a query attends.
    pub(crate) fn visible(&self, query: usize) -> usize {
        match self.causal {
            true => (query + 1 + self.keys)
                .saturating_sub(self.queries)
                .min(self.keys),
            false => self.keys,
        }
    }

    /// The columns of a head.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.size..(head + 1) * self.size
    }
}

/// The arithmetic of one block of queries of one head.
pub(crate) trait AttentionKernel: Sync {
    /// Most queries of a block.
    const QUERIES: usize;

    fn sizes(&self) -> Sizes;
    /// Floats of a head's packed keys and values.
    fn head_len(&self) -> usize;
    /// Floats of scratch of a task.
    fn task_len(&self) -> usize;
    /// Packs the keys and values of a head.
    fn pack(&self, head: usize, k: View<'_>, v: View<'_>, packed: &mut [f32]);
    /// Writes the means of the values, weighted by attention. `q` holds the head's `queries`, and
    /// `out` their rows.
    fn attend(
        &self,
        head: usize,
        queries: Range<usize>,
        q: View<'_>,
        packed: &[f32],
        scratch: &mut [f32],
        out: &mut OutputPart<'_>,
    );
}

/// Floats of scratch for [`attention`].
pub(crate) fn scratch(kernel: &impl AttentionKernel, threads: &Threads) -> usize {
    kernel.sizes().heads * kernel.head_len() + threads.count() * kernel.task_len()
}

/// Each row of `q` attends to the rows of `k` and `v`.
pub(crate) fn attention<K: AttentionKernel>(
    kernel: &K,
    threads: &Threads,
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let sizes = kernel.sizes();
    let (heads, workers) = (sizes.heads, threads.count());
    let (head_len, task_len) = (kernel.head_len(), kernel.task_len());
    let (packed, tasks) = scratch.split_at_mut(heads * head_len);

    let mut packed_heads = OutputPart::new(packed, heads, head_len);
    let grid = Grid::of_rows(Cuts::every(heads, 1), head_len);
    for_each_part(threads, &mut packed_heads, grid, |cell, mut packed| {
        let head = cell.rows.start;
        let (k, v) = (
            k.columns(sizes.columns(head)),
            v.columns(sizes.columns(head)),
        );
        kernel.pack(head, k, v, packed.row(0));
    });
    let packed = &*packed;

    let tasks = &mut tasks[..workers * task_len];
    let buffers = &mut OutputPart::new(tasks, workers, task_len);
    let mut out = OutputPart::of(out);
    let grid = Grid {
        rows: Cuts::every(sizes.queries, K::QUERIES),
        columns: Cuts::every(heads * sizes.size, sizes.size),
        phases: 1,
        by_columns: true,
    };
    share_parts(threads, &mut out, grid, buffers, |cell, mut out, buffer| {
        let head = cell.columns.start / sizes.size;
        let q = q.columns(cell.columns).rows(cell.rows.clone());
        let packed = &packed[head * head_len..][..head_len];
        kernel.attend(head, cell.rows, q, packed, buffer, &mut out);
    });
}
