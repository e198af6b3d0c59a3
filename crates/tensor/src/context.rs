//! The context of a forward: a workspace and a device.

use crate::cache::CachePlaces;
use crate::device::{Device, Failure};
use crate::operations::{Activation, Rounding};
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};
use crate::workspace::Workspace;

mod attention;
mod fused;
mod layers;
mod signals;

/// The context that every forward takes. Operations take their outputs from the workspace. They do
/// nothing if the workspace is dry or the device has failed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Memory for activations.
    pub workspace: &'a Workspace,
    /// The device that computes.
    pub device: &'a dyn Device,
    /// Rounding of activations where weights are integers.
    pub rounding: Rounding,
}

impl<'a> Context<'a> {
    /// A context of a workspace and a device.
    pub fn new(workspace: &'a Workspace, device: &'a dyn Device) -> Context<'a> {
        Context {
            workspace,
            device,
            rounding: Rounding::Fine,
        }
    }

    /// The same context with another rounding of activations.
    pub fn rounding(self, rounding: Rounding) -> Context<'a> {
        Context { rounding, ..self }
    }

    /// Whether nothing is computed.
    fn is_dry(&self) -> bool {
        self.workspace.is_dry() || self.device.check().is_err()
    }

    /// Checks a forward whose results stay on the device.
    ///
    /// # Errors
    /// If memory ran out during the forward, which is reported once, or if the device is known to
    /// have failed. The results are invalid then.
    pub fn finish(&self) -> Result<(), Failure> {
        if let Some(error) = self.workspace.take_failure() {
            return Err(error.into());
        }
        Ok(self.device.check()?)
    }

    /// Calls `work` with a result's elements in row-major order, without a copy where the device
    /// computes on the host. In a dry run `work` is not called.
    ///
    /// # Errors
    /// As [`Context::finish`]; all work of the device up to here is complete then.
    pub fn read<'v, R: Default>(
        &self,
        x: impl Into<View<'v>>,
        work: impl FnOnce(&[f32]) -> R,
    ) -> Result<R, Failure> {
        let x = x.into();
        self.finish()?;
        if x.is_dry() {
            return Ok(R::default());
        }
        let elements = x.row_count() * x.column_count();
        self.device.traffic().add_read(elements);
        if let Some(values) = x.contiguous() {
            return Ok(work(values));
        }
        let mut values = vec![0.0; elements];
        self.device.read(x, &mut values)?;
        Ok(work(&values))
    }

    /// As [`Context::read`] of two results, counted as one read.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read_both<R: Default>(
        &self,
        [one, other]: [&Tensor; 2],
        work: impl FnOnce(&[f32], &[f32]) -> R,
    ) -> Result<R, Failure> {
        let [one, other] = [one.view(), other.view()];
        self.finish()?;
        if one.is_dry() || other.is_dry() {
            return Ok(R::default());
        }
        let [first, second] = [one, other].map(|view| view.row_count() * view.column_count());
        self.device.traffic().add_read(first + second);
        if let (Some(one), Some(other)) = (one.contiguous(), other.contiguous()) {
            return Ok(work(one, other));
        }
        let (mut first, mut second) = (vec![0.0; first], vec![0.0; second]);
        (self.device).read_both([one, other], [&mut first, &mut second])?;
        Ok(work(&first, &second))
    }

    /// Copies a result's elements to the host in row-major order; empty in a dry run.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn download<'v>(&self, x: impl Into<View<'v>>) -> Result<Vec<f32>, Failure> {
        self.read(x, <[f32]>::to_vec)
    }

    /// Lets `work` fill contiguous rows, without a copy where the device computes on the host. In a
    /// dry run `work` is not called.
    ///
    /// # Panics
    /// If there are gaps between the rows.
    pub fn write<'o>(&self, out: impl Into<ViewMut<'o>>, work: impl FnOnce(&mut [f32])) {
        let mut out = out.into();
        let elements = out.row_count() * out.column_count();
        assert!(
            out.stride() == out.column_count() || out.row_count() <= 1,
            "write: contiguous rows"
        );
        if self.is_dry() {
            return;
        }
        self.device.traffic().add_write(elements);
        if let Some(values) = out.contiguous() {
            return work(values);
        }
        let mut values = vec![0.0; elements];
        work(&mut values);
        self.device.write(&values, out);
    }

    /// A tensor with unspecified contents.
    pub fn tensor(&self, dimensions: &[usize]) -> Tensor {
        self.workspace.tensor(dimensions)
    }

    /// A tensor of zeros.
    pub fn zeros(&self, dimensions: &[usize]) -> Tensor {
        let mut tensor = self.tensor(dimensions);
        if !self.is_dry() {
            self.device.fill(tensor.view_mut(), 0.0);
        }
        tensor
    }

    /// A tensor with the given contents.
    ///
    /// # Panics
    /// If their number differs from that of the dimensions.
    pub fn upload(&self, dimensions: &[usize], values: &[f32]) -> Tensor {
        let elements: usize = dimensions.iter().product();
        assert_eq!(values.len(), elements, "values for a tensor {dimensions:?}");
        let mut tensor = self.tensor(dimensions);
        self.write(&mut tensor, |out| out.copy_from_slice(values));
        tensor
    }

    /// Copies rows to a new tensor.
    pub fn copy<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        self.concat_rows(&[x.into()])
    }

    /// Copies rows to rows of the same shape.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn copy_into<'v, 'o>(&self, x: impl Into<View<'v>>, out: impl Into<ViewMut<'o>>) {
        let (x, out) = (x.into(), out.into());
        assert_same_shape("copy_into", &out, &x);
        if !self.is_dry() {
            self.device.copy(x, out);
        }
    }

    /// Concatenates rows.
    ///
    /// # Panics
    /// If there are no parts, or their numbers of columns differ.
    pub fn concat_rows(&self, parts: &[View<'_>]) -> Tensor {
        let columns = parts[0].column_count();
        let rows = parts.iter().map(View::row_count).sum();
        let mut out = self.tensor(&[rows, columns]);
        let mut first = 0;
        for part in parts {
            let range = first..first + part.row_count();
            first = range.end;
            self.copy_into(*part, out.view_mut().rows(range));
        }
        out
    }

    /// Concatenates columns.
    ///
    /// # Panics
    /// If there are no parts, or their numbers of rows differ.
    pub fn concat_columns(&self, parts: &[View<'_>]) -> Tensor {
        let rows = parts[0].row_count();
        let columns = parts.iter().map(View::column_count).sum();
        let mut out = self.tensor(&[rows, columns]);
        let mut first = 0;
        for part in parts {
            let range = first..first + part.column_count();
            first = range.end;
            self.copy_into(*part, out.view_mut().columns(range));
        }
        out
    }

    /// Applies an activation to each element.
    pub fn activate<'o>(&self, x: impl Into<ViewMut<'o>>, activation: Activation) {
        let x = x.into();
        if !self.is_dry() {
            self.device.activate(x, activation);
        }
    }

    /// silu(gate) · up, where the first half of the columns is the gate: `[n, 2 f]` → `[n, f]`.
    pub fn gated_silu<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count(), x.column_count() / 2]);
        if !self.is_dry() {
            self.device.gated_silu(x, out.view_mut());
        }
        out
    }

    /// x = x + y; a single row of y is broadcast.
    ///
    /// # Panics
    /// If the numbers of columns differ, or `y` has neither one row nor as many as `x`.
    pub fn add<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        self.add_scaled(x, 1.0, y, 1.0);
    }

    /// x = x · `scale` + y · `factor`; a single row of y is broadcast.
    ///
    /// # Panics
    /// As [`Context::add`].
    pub fn add_scaled<'o, 'v>(
        &self,
        x: impl Into<ViewMut<'o>>,
        scale: f32,
        y: impl Into<View<'v>>,
        factor: f32,
    ) {
        let (x, y) = (x.into(), y.into());
        assert_broadcast("add_scaled", &x, &y);
        if !self.is_dry() {
            self.device.add_scaled(x, scale, y, factor);
        }
    }

    /// x = x · y; a single row of y is broadcast.
    ///
    /// # Panics
    /// As [`Context::add`].
    pub fn multiply<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        let (x, y) = (x.into(), y.into());
        assert_broadcast("multiply", &x, &y);
        if !self.is_dry() {
            self.device.multiply(x, y);
        }
    }

    /// x = x · `factor`.
    pub fn scale<'o>(&self, x: impl Into<ViewMut<'o>>, factor: f32) {
        let x = x.into();
        if !self.is_dry() {
            self.device.scale(x, factor);
        }
    }

    /// Repeats each row `times` times: `[n, columns]` → `[n · times, columns]`.
    pub fn repeat_rows<'v>(&self, x: impl Into<View<'v>>, times: usize) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count() * times, x.column_count()]);
        if !self.is_dry() {
            self.device.repeat_rows(x, times, out.view_mut());
        }
        out
    }

    /// Softmax of each row.
    pub fn softmax<'o>(&self, x: impl Into<ViewMut<'o>>) {
        let x = x.into();
        if !self.is_dry() {
            self.device.softmax(x);
        }
    }
}

fn assert_rows_at(operation: &str, x: &View<'_>, places: &CachePlaces<'_>) {
    let layout = places.layout();
    assert_eq!(
        (x.row_count(), x.column_count()),
        (places.rows().len(), layout.heads * layout.size),
        "{operation}: rows, and columns of all heads"
    );
}

fn assert_same_shape(operation: &str, x: &ViewMut<'_>, y: &View<'_>) {
    assert!(
        x.row_count() == y.row_count() && x.column_count() == y.column_count(),
        "{operation}: [{}, {}] against [{}, {}]",
        x.row_count(),
        x.column_count(),
        y.row_count(),
        y.column_count()
    );
}

fn assert_broadcast(operation: &str, x: &ViewMut<'_>, y: &View<'_>) {
    assert!(
        (y.row_count() == 1 || x.row_count() == y.row_count())
            && x.column_count() == y.column_count(),
        "{operation}: [{}, {}] against [{}, {}]",
        x.row_count(),
        x.column_count(),
        y.row_count(),
        y.column_count()
    );
}
