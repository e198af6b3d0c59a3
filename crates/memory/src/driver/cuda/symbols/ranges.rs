//! Virtual memory management.

use super::{CallFailure, Library, need};
use cudarc::driver::sys::{
    CUdeviceptr, CUmemAccess_flags_enum, CUmemAccessDesc, CUmemAllocationHandleType_enum,
    CUmemAllocationProp, CUmemAllocationProp_st__bindgen_ty_1, CUmemAllocationType_enum,
    CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType_enum,
};
use std::ffi::{c_int, c_uint, c_ulonglong};

/// A physical allocation that is not mapped yet, or that only its mappings keep alive.
#[derive(Debug)]
pub(in crate::driver::cuda) struct Physical(CUmemGenericAllocationHandle);

functions! {
    /// Virtual memory management: absent before CUDA 10.2.
    struct Ranges {
        granularity = "cuMemGetAllocationGranularity": fn(*mut usize, *const CUmemAllocationProp, c_uint);
        reserve = "cuMemAddressReserve": fn(*mut CUdeviceptr, usize, usize, CUdeviceptr, c_ulonglong);
        release_addresses = "cuMemAddressFree": fn(CUdeviceptr, usize);
        create = "cuMemCreate": fn(*mut CUmemGenericAllocationHandle, usize, *const CUmemAllocationProp, c_ulonglong);
        release = "cuMemRelease": fn(CUmemGenericAllocationHandle);
        map = "cuMemMap": fn(CUdeviceptr, usize, usize, CUmemGenericAllocationHandle, c_ulonglong);
        unmap = "cuMemUnmap": fn(CUdeviceptr, usize);
        set_access = "cuMemSetAccess": fn(CUdeviceptr, usize, *const CUmemAccessDesc, usize);
    }
}

impl Library {
    /// Whether the range functions are present; otherwise the missing one.
    pub(in crate::driver::cuda) fn has_ranges(&self) -> Result<(), &'static str> {
        self.ranges.map(|_| ())
    }

    /// Granularity at which memory can be created and mapped on a device.
    pub(in crate::driver::cuda) fn granularity(&self, device: c_int) -> Result<u64, CallFailure> {
        let mut bytes = 0;
        let properties = properties(device);
        let ranges = need(self.ranges)?;
        // SAFETY: both pointers are valid for the call; 0 requests the minimum granularity.
        let status = unsafe { (ranges.granularity)(&mut bytes, &properties, 0) };
        self.check("cuMemGetAllocationGranularity", status)
            .map(|()| bytes as u64)
    }

    /// Reserves addresses at a multiple of `alignment`; 0 leaves the alignment to the library.
    pub(in crate::driver::cuda) fn reserve(
        &self,
        bytes: u64,
        alignment: u64,
    ) -> Result<u64, CallFailure> {
        let mut address = 0;
        let ranges = need(self.ranges)?;
        // SAFETY: the pointer is valid for the call; 0 leaves the address to the library.
        let status =
            unsafe { (ranges.reserve)(&mut address, bytes as usize, alignment as usize, 0, 0) };
        self.check("cuMemAddressReserve", status).map(|()| address)
    }

    pub(in crate::driver::cuda) fn release_addresses(
        &self,
        address: u64,
        bytes: u64,
    ) -> Result<(), CallFailure> {
        // SAFETY: the library refuses a range that it did not reserve.
        let status = unsafe { (need(self.ranges)?.release_addresses)(address, bytes as usize) };
        self.check("cuMemAddressFree", status)
    }

    pub(in crate::driver::cuda) fn create(
        &self,
        bytes: u64,
        device: c_int,
    ) -> Result<Physical, CallFailure> {
        let mut handle = 0;
        let properties = properties(device);
        let ranges = need(self.ranges)?;
        // SAFETY: both pointers are valid for the call.
        let status = unsafe { (ranges.create)(&mut handle, bytes as usize, &properties, 0) };
        self.check("cuMemCreate", status).map(|()| Physical(handle))
    }

    /// Releases the handle. The memory lives on while it is mapped.
    pub(in crate::driver::cuda) fn release(&self, physical: &Physical) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, which refuses one that was released.
        let status = unsafe { (need(self.ranges)?.release)(physical.0) };
        self.check("cuMemRelease", status)
    }

    pub(in crate::driver::cuda) fn map(
        &self,
        address: u64,
        bytes: u64,
        physical: &Physical,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, which refuses addresses that are not reserved
        // or already mapped.
        let status = unsafe { (need(self.ranges)?.map)(address, bytes as usize, 0, physical.0, 0) };
        self.check("cuMemMap", status)
    }

    pub(in crate::driver::cuda) fn unmap(
        &self,
        address: u64,
        bytes: u64,
    ) -> Result<(), CallFailure> {
        // SAFETY: the library refuses a range that is not one whole mapping; by the caller's books,
        // no kernel uses it.
        let status = unsafe { (need(self.ranges)?.unmap)(address, bytes as usize) };
        self.check("cuMemUnmap", status)
    }

    /// Makes mapped addresses readable and writable for the device.
    pub(in crate::driver::cuda) fn set_access(
        &self,
        address: u64,
        bytes: u64,
        device: c_int,
    ) -> Result<(), CallFailure> {
        let access = CUmemAccessDesc {
            location: location(device),
            flags: CUmemAccess_flags_enum::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        let ranges = need(self.ranges)?;
        // SAFETY: the pointer is valid for the call and has one element behind it.
        let status = unsafe { (ranges.set_access)(address, bytes as usize, &access, 1) };
        self.check("cuMemSetAccess", status)
    }
}

fn location(device: c_int) -> CUmemLocation {
    CUmemLocation {
        type_: CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE,
        id: device,
    }
}

fn properties(device: c_int) -> CUmemAllocationProp {
    CUmemAllocationProp {
        type_: CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: CUmemAllocationHandleType_enum::CU_MEM_HANDLE_TYPE_NONE,
        location: location(device),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}
