//! Auto-vectorised code, compiled for each instruction set and dispatched at run time.

/// Defines functions whose bodies are compiled for each instruction set. Functions called by a body
/// must be `#[inline(always)]`: code that is not inlined has only the baseline's vectors. Bodies
/// may use `FUSED`: whether [`multiply_add`] is one instruction.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$(const $constant:ident: $kind:ty),+>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$attribute])*
        $visibility fn $name $(<$(const $constant: $kind),+>)? ($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body<const FUSED: bool $($(, const $constant: $kind)+)?>($($argument: $type),*) $(-> $result)? $body
            $crate::cpu::instruction_set::enter!(
                floats $crate::cpu::instruction_set::InstructionSet::best(),
                [$($(const $constant: $kind),+)?] ($($argument: $type),*) -> [$($result)?],
                [$($($constant),+)?] ($($argument),*),
                body::<true $($(, $constant)+)?>($($argument),*),
                body::<true $($(, $constant)+)?>($($argument),*),
                body::<{ cfg!(target_arch = "aarch64") } $($(, $constant)+)?>($($argument),*)
            )
        }
    )+};
}

pub(crate) use vectorised;

/// x · y + z, rounded once if `FUSED`.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FUSED { x.mul_add(y, z) } else { x * y + z }
}
