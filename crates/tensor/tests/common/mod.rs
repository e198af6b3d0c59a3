//! Naive f64 versions of operations, and helpers to run a device.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod fixture;
pub mod tight;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use fixture::{Fixture, rounded};

use sottovoce_memory::pages::{PagePool, PageTable};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::{CachePlaces, Context, PageLayout};

/// Pseudo-random numbers between −1 and 1.
pub fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// x Wᵀ.
pub fn product(x: &[f32], weights: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weights.chunks_exact(inputs);
    x.chunks_exact(inputs)
        .flat_map(|row| outputs.clone().map(move |weights| dot(row, weights) as f32))
        .collect()
}

pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_l2(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths");
    let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(b, b).max(1e-30)).sqrt()
}

/// A table with pages for `positions` positions.
pub fn page_table(memory: &Memory, layout: PageLayout, positions: usize) -> PageTable {
    let pages = PagePool::new(memory, layout.page_bytes(), usize::MAX);
    let mut table = pages.table(Owner::new(Region::KeyValue, "test"));
    for _ in 0..positions.div_ceil(layout.positions) {
        table.push_page().expect("room");
    }
    table
}

/// Stores keys and values `[positions][columns]` of one row and layer.
pub fn store_positions(
    ctx: &Context<'_>,
    table: &mut PageTable,
    layout: PageLayout,
    [row, layer]: [usize; 2],
    [keys, values]: [&[f32]; 2],
) {
    let columns = layout.cache.heads * layout.cache.size;
    let positions = keys.len() / columns;
    let mut places = CachePlaces::new(layout.cache);
    let first = places.add_sequences(None, table, layout);
    (0..positions).for_each(|position| places.add_row(first + row, position + 1));
    let [keys, values] = [keys, values].map(|x| ctx.upload(&[positions, columns], x));
    ctx.cache_store(&keys, &values, layer, &mut places);
}
