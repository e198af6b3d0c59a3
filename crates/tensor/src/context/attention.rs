//! Attention, over given keys or over a KV cache, and encodings of positions.

use super::{Context, assert_rows_at};
use crate::cache::CachePlaces;
use crate::operations::{Attention, EvenPositions, SinusoidOrder, WatchedHeads};
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

impl Context<'_> {
    /// Attention of `[queries, heads · size]` over `[keys, heads · size]`.
    ///
    /// # Panics
    /// If queries, keys and values differ in columns or keys and values in rows, the heads do not
    /// divide the columns, or relative positions are given and there are not as many queries as
    /// keys.
    pub fn attention<'q, 'k, 'v>(
        &self,
        q: impl Into<View<'q>>,
        k: impl Into<View<'k>>,
        v: impl Into<View<'v>>,
        options: &Attention<'_>,
    ) -> Tensor {
        let (q, k, v) = (q.into(), k.into(), v.into());
        let (queries, keys, columns) = (q.row_count(), k.row_count(), q.column_count());
        assert!(
            k.column_count() == columns && v.column_count() == columns && v.row_count() == keys,
            "attention: queries [{queries}, {columns}], keys [{keys}, {}], values [{}, {}]",
            k.column_count(),
            v.row_count(),
            v.column_count()
        );
        assert_eq!(columns % options.heads, 0, "attention: columns by heads");
        if let Some(relative) = &options.relative {
            assert_eq!(
                queries, keys,
                "attention: relative positions need equal lengths"
            );
            assert_eq!(
                (relative.queries.row_count(), relative.positions.row_count()),
                (queries, (2 * keys).saturating_sub(1)),
                "attention: rows for relative positions"
            );
        }
        let mut out = self.tensor(&[queries, columns]);
        let rounding = self.rounding;
        let needed = (self.device).attention_scratch(queries, keys, columns, options, rounding);
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() && queries > 0 {
            let scratch = scratch.view_mut();
            self.device
                .attention(q, k, v, options, rounding, out.view_mut(), scratch);
        }
        out
    }

    /// Stores each row's keys and values, `[rows, heads · size]`, at its own position in a layer's
    /// part of the pages.
    ///
    /// # Panics
    /// If keys or values are not `[rows of the places, heads · size]`.
    pub fn cache_store<'k, 'v>(
        &self,
        keys: impl Into<View<'k>>,
        values: impl Into<View<'v>>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) {
        let (keys, values) = (keys.into(), values.into());
        assert_rows_at("cache_store", &keys, places);
        assert_rows_at("cache_store", &values, places);
        if !self.is_dry() {
            self.device.cache_store(keys, values, layer, places);
        }
    }

    /// Attention of each row of `q`, `[rows, heads · size]`, over its cached past including its own
    /// position, in a layer's part of the pages.
    ///
    /// # Panics
    /// If `q` is not `[rows of the places, heads · size]`.
    pub fn attention_cached<'q>(
        &self,
        q: impl Into<View<'q>>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
    ) -> Tensor {
        self.attention_watched(q, layer, places, scale, None)
    }

    /// As [`Context::attention_cached`]; records the weights of the `watched` heads at the rows'
    /// watched positions ([`CachePlaces::watch`]). The softmax is over all that a row attends to.
    ///
    /// # Panics
    /// As [`Context::attention_cached`], and if there is no such head, or their record has no room
    /// for a row.
    pub fn attention_watched<'q>(
        &self,
        q: impl Into<View<'q>>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
    ) -> Tensor {
        let q = q.into();
        assert_rows_at("attention_cached", &q, places);
        if let Some(watched) = &watched {
            watched.check(places);
        }
        let mut out = self.tensor(&[q.row_count(), q.column_count()]);
        let needed = (self.device).attention_cached_scratch(q.row_count(), places.layout());
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() {
            let (out, scratch) = (out.view_mut(), scratch.view_mut());
            (self.device).attention_cached(q, layer, places, scale, watched, out, scratch);
        }
        out
    }

    /// Cosines and sines of position · frequency, `[positions, frequencies]` each: the angles for
    /// [`Context::rotate`].
    pub fn rotary_angles(&self, positions: &[u32], frequencies: &[f32]) -> [Tensor; 2] {
        let shape = [positions.len(), frequencies.len()];
        let [mut cosines, mut sines] = [self.tensor(&shape), self.tensor(&shape)];
        if !self.is_dry() {
            let (cosines, sines) = (cosines.view_mut(), sines.view_mut());
            self.device
                .rotary_angles(positions, frequencies, cosines, sines);
        }
        [cosines, sines]
    }

    /// Sines and cosines of position · rate, `[rows, 2 · rates]`.
    pub fn sinusoids(
        &self,
        rows: usize,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
    ) -> Tensor {
        let mut out = self.tensor(&[rows, 2 * rates.len()]);
        if !self.is_dry() {
            self.device
                .sinusoids(positions, rates, order, out.view_mut());
        }
        out
    }

    /// Rotary position embedding in halves; `cosines` and `sines` are `[rows, size / 2]`.
    ///
    /// # Panics
    /// If `x` has another number of columns than `heads` · `size`.
    pub fn rotate<'o>(
        &self,
        x: impl Into<ViewMut<'o>>,
        heads: usize,
        cosines: &Tensor,
        sines: &Tensor,
    ) {
        let x = x.into();
        assert_eq!(
            x.column_count(),
            2 * heads * cosines.columns(),
            "rotate: columns"
        );
        if !self.is_dry() {
            self.device.rotate(x, heads, cosines.view(), sines.view());
        }
    }
}
