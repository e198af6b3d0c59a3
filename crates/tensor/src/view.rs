//! Views: rows of activations or weights in any memory.
//!
//! A view is a place and a shape. Only operations of the host access elements through it; a device
//! gets an address.

use crate::tensor::Tensor;
use sottovoce_memory::driver::Address;
use std::ops::Range;

/// Place of a view's elements, the gaps between its rows included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// None: a dry run has shapes but no elements.
    Dry,
    /// Host memory.
    Host(&'a [f32]),
    /// A device's memory, from this address on.
    Device(Address),
}

/// As [`Place`], for writing.
pub(crate) enum PlaceMut<'a> {
    Dry,
    Host(&'a mut [f32]),
    Device(Address),
}

impl<'a> Place<'a> {
    /// The elements from `elements` to `end`, clamped to the available ones.
    fn part(self, elements: usize, end: usize) -> Place<'a> {
        match self {
            Place::Dry => Place::Dry,
            Place::Host(data) => {
                let end = end.min(data.len());
                Place::Host(&data[elements.min(end)..end])
            }
            Place::Device(start) => Place::Device(moved(start, elements)),
        }
    }
}

impl<'a> PlaceMut<'a> {
    fn part(self, elements: usize, end: usize) -> PlaceMut<'a> {
        match self {
            PlaceMut::Dry => PlaceMut::Dry,
            PlaceMut::Host(data) => {
                let end = end.min(data.len());
                PlaceMut::Host(&mut data[elements.min(end)..end])
            }
            PlaceMut::Device(start) => PlaceMut::Device(moved(start, elements)),
        }
    }

    fn reborrow(&mut self) -> PlaceMut<'_> {
        match self {
            PlaceMut::Dry => PlaceMut::Dry,
            PlaceMut::Host(data) => PlaceMut::Host(data),
            PlaceMut::Device(start) => PlaceMut::Device(*start),
        }
    }

    fn as_place(&self) -> Place<'_> {
        match self {
            PlaceMut::Dry => Place::Dry,
            PlaceMut::Host(data) => Place::Host(data),
            PlaceMut::Device(start) => Place::Device(*start),
        }
    }
}

fn moved(start: Address, elements: usize) -> Address {
    start.offset((elements * size_of::<f32>()) as u64)
}

#[cold]
fn not_here(rows: usize, columns: usize, place: &str) -> ! {
    panic!("a view of {rows} × {columns} is {place}: the host cannot access its elements");
}

/// Rows of a tensor or of weights, possibly a range of their columns. In a dry run it has a shape
/// and no place.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    place: Place<'a>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> View<'a> {
    pub(crate) fn at(place: Place<'a>, rows: usize, columns: usize) -> View<'a> {
        View {
            place,
            rows,
            columns,
            stride: columns,
        }
    }

    /// `rows` × `columns` contiguous host elements, for a device that computes on the host.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> View<'a> {
        assert_eq!(
            data.len(),
            rows * columns,
            "a view of {rows} × {columns} needs as many elements"
        );
        View::at(Place::Host(data), rows, columns)
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Address of the first element, if the host cannot access the device's memory.
    pub fn address(&self) -> Option<Address> {
        match self.place {
            Place::Device(address) => Some(address),
            Place::Dry | Place::Host(_) => None,
        }
    }

    /// Whether it has no elements because nothing is computed.
    pub(crate) fn is_dry(&self) -> bool {
        matches!(self.place, Place::Dry)
    }

    /// All elements, if they are contiguous and on the host.
    pub(crate) fn contiguous(&self) -> Option<&'a [f32]> {
        match self.place {
            Place::Host(data) if self.stride == self.columns || self.rows <= 1 => {
                Some(&data[..self.rows * self.columns])
            }
            _ => None,
        }
    }

    /// All elements from the first row's first to the last row's last, the gaps between rows
    /// included.
    ///
    /// # Panics
    /// If they are not on the host.
    #[inline]
    pub(crate) fn data(&self) -> &'a [f32] {
        match self.place {
            Place::Host(data) => data,
            Place::Dry => not_here(self.rows, self.columns, "nowhere"),
            Place::Device(_) => not_here(self.rows, self.columns, "on a device"),
        }
    }

    /// One row.
    ///
    /// # Panics
    /// If it is not on the host.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.data()[index * self.stride..][..self.columns]
    }

    /// A range of rows.
    ///
    /// # Panics
    /// If the view has fewer.
    pub fn rows(&self, range: Range<usize>) -> View<'a> {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of {}",
            self.rows
        );
        let (start, end) = (range.start * self.stride, range.end * self.stride);
        View {
            place: self.place.part(start, end),
            rows: range.len(),
            ..*self
        }
    }

    /// A range of columns.
    ///
    /// # Panics
    /// If the view has fewer.
    pub fn columns(&self, range: Range<usize>) -> View<'a> {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        View {
            place: self.place.part(range.start, usize::MAX),
            columns: range.len(),
            ..*self
        }
    }
}

impl<'a> From<&'a Tensor> for View<'a> {
    fn from(tensor: &'a Tensor) -> View<'a> {
        tensor.view()
    }
}

/// Rows for writing.
pub struct ViewMut<'a> {
    place: PlaceMut<'a>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> ViewMut<'a> {
    pub(crate) fn at(place: PlaceMut<'a>, rows: usize, columns: usize) -> ViewMut<'a> {
        ViewMut {
            place,
            rows,
            columns,
            stride: columns,
        }
    }

    /// `rows` × `columns` contiguous host elements, for a device that computes on the host.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> ViewMut<'a> {
        assert_eq!(
            data.len(),
            rows * columns,
            "a view of {rows} × {columns} needs as many elements"
        );
        ViewMut::at(PlaceMut::Host(data), rows, columns)
    }

    /// The same rows, for reading.
    pub fn as_view(&self) -> View<'_> {
        View {
            place: self.place.as_place(),
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Address of the first element, if the host cannot access the device's memory.
    pub fn address(&self) -> Option<Address> {
        self.as_view().address()
    }

    /// All elements, if they are contiguous and on the host.
    pub(crate) fn contiguous(&mut self) -> Option<&mut [f32]> {
        match &mut self.place {
            PlaceMut::Host(data) if self.stride == self.columns || self.rows <= 1 => {
                Some(&mut data[..self.rows * self.columns])
            }
            _ => None,
        }
    }

    /// The elements, the gaps between rows included.
    ///
    /// # Panics
    /// If they are not on the host.
    #[inline]
    pub(crate) fn into_data(self) -> &'a mut [f32] {
        match self.place {
            PlaceMut::Host(data) => data,
            PlaceMut::Dry => not_here(self.rows, self.columns, "nowhere"),
            PlaceMut::Device(_) => not_here(self.rows, self.columns, "on a device"),
        }
    }

    /// One row.
    ///
    /// # Panics
    /// If it is not on the host.
    #[inline]
    pub(crate) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        let (columns, start) = (self.columns, index * self.stride);
        &mut self.reborrow().into_data()[start..][..columns]
    }

    /// The same rows with a shorter lifetime.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut {
            place: self.place.reborrow(),
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// The elements of a single row as `rows` rows.
    ///
    /// # Panics
    /// If there are several rows, or their elements cannot be divided evenly.
    pub(crate) fn in_rows(self, rows: usize) -> ViewMut<'a> {
        let columns = self.columns / rows.max(1);
        assert!(
            self.rows == 1 && columns * rows == self.columns,
            "{} × {} elements in {rows} rows",
            self.rows,
            self.columns
        );
        ViewMut {
            rows,
            columns,
            stride: columns,
            ..self
        }
    }

    /// A range of rows.
    ///
    /// # Panics
    /// If the view has fewer.
    pub fn rows(self, range: Range<usize>) -> ViewMut<'a> {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of {}",
            self.rows
        );
        let (start, end) = (range.start * self.stride, range.end * self.stride);
        ViewMut {
            place: self.place.part(start, end),
            rows: range.len(),
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// A range of columns.
    ///
    /// # Panics
    /// If the view has fewer.
    pub fn columns(self, range: Range<usize>) -> ViewMut<'a> {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        ViewMut {
            place: self.place.part(range.start, usize::MAX),
            rows: self.rows,
            columns: range.len(),
            stride: self.stride,
        }
    }
}

impl<'a> From<&'a mut Tensor> for ViewMut<'a> {
    fn from(tensor: &'a mut Tensor) -> ViewMut<'a> {
        tensor.view_mut()
    }
}
