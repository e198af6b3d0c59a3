//! The driver library's functions, looked up by name at run time. The only place that calls them.
//!
//! The library checks device addresses, sizes and ordinals itself and answers with an error, so the methods are safe as long as
//! contexts and handles come from it: both are made only here.

use super::error::CudaError;
use cudarc::driver::sys::{
    CUdeviceptr, CUmemAccess_flags_enum, CUmemAccessDesc, CUmemAllocationHandleType_enum,
    CUmemAllocationProp, CUmemAllocationProp_st__bindgen_ty_1, CUmemAllocationType_enum,
    CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType_enum, culib, is_culib_present,
};
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

/// What every function returns: 0, or an error's number. Kept as a number, since a newer library may know more of them than any list.
type Status = c_uint;

/// The device has too little memory.
pub(super) const OUT_OF_MEMORY: Status = 2;
/// `CU_DEVICE_ATTRIBUTE_INTEGRATED`: the device shares the processor's memory.
pub(super) const ATTRIBUTE_INTEGRATED: c_int = 18;
/// `CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED`.
pub(super) const ATTRIBUTE_ADDRESS_MANAGEMENT: c_int = 102;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub call: &'static str,
    pub status: Status,
    pub message: String,
}

/// A device's primary context, retained.
#[derive(Debug)]
pub(super) struct Context {
    pointer: *mut c_void,
    ordinal: c_int,
}

// SAFETY: the library allows a context to be made current in any thread, and counts its users under its own lock.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Physical memory that is not mapped yet, or that is kept by its maps alone.
#[derive(Debug)]
pub(super) struct Physical(CUmemGenericAllocationHandle);

macro_rules! functions {
    ($(#[$note:meta])* struct $name:ident { $($field:ident = $symbol:literal: fn($($argument:ty),*);)* }) => {
        $(#[$note])*
        #[derive(Clone, Copy)]
        struct $name { $($field: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl $name {
            /// Looks all of them up; the name of the first one that the library lacks otherwise.
            fn load() -> Result<$name, &'static str> {
                Ok($name {
                    $($field: {
                        // SAFETY: the types are those of the library's published header, which never changes a symbol's; a
                        // library that is loaded is never unloaded.
                        unsafe { culib().get($symbol.as_bytes()) }
                            .map(|function| *function)
                            .map_err(|_| $symbol)?
                    },)*
                })
            }
        }
    };
}

functions! {
    /// What every driver library has.
    struct Basic {
        initialize = "cuInit": fn(c_uint);
        driver_version = "cuDriverGetVersion": fn(*mut c_int);
        error_name = "cuGetErrorName": fn(Status, *mut *const c_char);
        device_count = "cuDeviceGetCount": fn(*mut c_int);
        device = "cuDeviceGet": fn(*mut c_int, c_int);
        device_name = "cuDeviceGetName": fn(*mut c_char, c_int, c_int);
        device_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_int, c_int);
        device_total_memory = "cuDeviceTotalMem_v2": fn(*mut usize, c_int);
        retain_context = "cuDevicePrimaryCtxRetain": fn(*mut *mut c_void, c_int);
        release_context = "cuDevicePrimaryCtxRelease_v2": fn(c_int);
        set_context = "cuCtxSetCurrent": fn(*mut c_void);
        synchronize = "cuCtxSynchronize": fn();
        memory = "cuMemGetInfo_v2": fn(*mut usize, *mut usize);
        allocate = "cuMemAlloc_v2": fn(*mut CUdeviceptr, usize);
        free = "cuMemFree_v2": fn(CUdeviceptr);
    }
}

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

/// The loaded library.
#[derive(Clone, Copy)]
pub(super) struct Library {
    basic: Basic,
    ranges: Result<Ranges, &'static str>,
}

impl Library {
    /// Loads and starts the driver library.
    pub(super) fn load() -> Result<Library, CudaError> {
        // SAFETY: loading runs the library's initialisers, as it does for every program that is linked to it.
        if !unsafe { is_culib_present() } {
            return Err(CudaError::NoLibrary);
        }
        let basic = Basic::load().map_err(|symbol| CudaError::MissingSymbol { symbol })?;
        let library = Library {
            basic,
            ranges: Ranges::load(),
        };
        // SAFETY: takes no pointer; the flags must be 0.
        library.check("cuInit", unsafe { (basic.initialize)(0) })?;
        Ok(library)
    }

    /// Whether ranges can be reserved; the missing function otherwise.
    pub(super) fn has_ranges(&self) -> Result<(), &'static str> {
        self.ranges.map(|_| ())
    }

    /// 1000 × major + 10 × minor.
    pub(super) fn driver_version(&self) -> Result<c_int, Failure> {
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.driver_version)(&mut version) };
        self.check("cuDriverGetVersion", status).map(|()| version)
    }

    pub(super) fn device_count(&self) -> Result<c_int, Failure> {
        let mut count = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_count)(&mut count) };
        self.check("cuDeviceGetCount", status).map(|()| count)
    }

    pub(super) fn device(&self, ordinal: c_int) -> Result<c_int, Failure> {
        let mut device = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device)(&mut device, ordinal) };
        self.check("cuDeviceGet", status).map(|()| device)
    }

    pub(super) fn device_name(&self, device: c_int) -> Result<String, Failure> {
        let mut name = [0; 256];
        // SAFETY: the library writes at most as many bytes as it is told that the array has, with a zero at the end.
        let status =
            unsafe { (self.basic.device_name)(name.as_mut_ptr(), name.len() as c_int - 1, device) };
        self.check("cuDeviceGetName", status)?;
        // SAFETY: the array's last byte was never written and is zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Ok(name.to_string_lossy().into_owned())
    }

    pub(super) fn device_attribute(
        &self,
        attribute: c_int,
        device: c_int,
    ) -> Result<c_int, Failure> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_attribute)(&mut value, attribute, device) };
        self.check("cuDeviceGetAttribute", status).map(|()| value)
    }

    pub(super) fn device_total_memory(&self, device: c_int) -> Result<u64, Failure> {
        let mut bytes = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_total_memory)(&mut bytes, device) };
        self.check("cuDeviceTotalMem", status)
            .map(|()| bytes as u64)
    }

    /// Retains a device's primary context; [`Library::release_context`] undoes it.
    pub(super) fn retain_context(&self, device: c_int) -> Result<Context, Failure> {
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.retain_context)(&mut pointer, device) };
        self.check("cuDevicePrimaryCtxRetain", status)
            .map(|()| Context {
                pointer,
                ordinal: device,
            })
    }

    pub(super) fn release_context(&self, context: &Context) -> Result<(), Failure> {
        // SAFETY: takes no pointer.
        let status = unsafe { (self.basic.release_context)(context.ordinal) };
        self.check("cuDevicePrimaryCtxRelease", status)
    }

    /// Makes the context this thread's, as the functions on memory need it.
    pub(super) fn enter(&self, context: &Context) -> Result<(), Failure> {
        // SAFETY: the context was retained and lives until its owner releases it.
        let status = unsafe { (self.basic.set_context)(context.pointer) };
        self.check("cuCtxSetCurrent", status)
    }

    /// Waits for everything under way in this thread's context.
    pub(super) fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: takes no pointer.
        let status = unsafe { (self.basic.synchronize)() };
        self.check("cuCtxSynchronize", status)
    }

    /// Free and total bytes of this thread's context's device.
    pub(super) fn memory(&self) -> Result<(u64, u64), Failure> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are valid for the call.
        let status = unsafe { (self.basic.memory)(&mut free, &mut total) };
        self.check("cuMemGetInfo", status)
            .map(|()| (free as u64, total as u64))
    }

    pub(super) fn allocate(&self, bytes: u64) -> Result<u64, Failure> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.allocate)(&mut address, bytes as usize) };
        self.check("cuMemAlloc", status).map(|()| address)
    }

    pub(super) fn free(&self, address: u64) -> Result<(), Failure> {
        // SAFETY: the library refuses an address that it did not give; no kernel uses it (the caller's books).
        let status = unsafe { (self.basic.free)(address) };
        self.check("cuMemFree", status)
    }

    /// The unit in which memory can be created and mapped on a device.
    pub(super) fn granularity(&self, device: c_int) -> Result<u64, Failure> {
        let mut bytes = 0;
        let properties = properties(device);
        let ranges = self.ranges()?;
        // SAFETY: both pointers are valid for the call; 0 asks for the least unit.
        let status = unsafe { (ranges.granularity)(&mut bytes, &properties, 0) };
        self.check("cuMemGetAllocationGranularity", status)
            .map(|()| bytes as u64)
    }

    pub(super) fn reserve(&self, bytes: u64) -> Result<u64, Failure> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call; 0 leaves alignment and place to the library.
        let status = unsafe { (self.ranges()?.reserve)(&mut address, bytes as usize, 0, 0, 0) };
        self.check("cuMemAddressReserve", status).map(|()| address)
    }

    pub(super) fn release_addresses(&self, address: u64, bytes: u64) -> Result<(), Failure> {
        // SAFETY: the library refuses a range that it did not give.
        let status = unsafe { (self.ranges()?.release_addresses)(address, bytes as usize) };
        self.check("cuMemAddressFree", status)
    }

    pub(super) fn create(&self, bytes: u64, device: c_int) -> Result<Physical, Failure> {
        let mut handle = 0;
        let properties = properties(device);
        let ranges = self.ranges()?;
        // SAFETY: both pointers are valid for the call.
        let status = unsafe { (ranges.create)(&mut handle, bytes as usize, &properties, 0) };
        self.check("cuMemCreate", status).map(|()| Physical(handle))
    }

    /// Gives the handle up: the memory lives on as long as it is mapped somewhere.
    pub(super) fn release(&self, physical: &Physical) -> Result<(), Failure> {
        // SAFETY: the handle came from the library, which refuses one that was released.
        let status = unsafe { (self.ranges()?.release)(physical.0) };
        self.check("cuMemRelease", status)
    }

    pub(super) fn map(&self, address: u64, bytes: u64, physical: &Physical) -> Result<(), Failure> {
        // SAFETY: the handle came from the library, which refuses addresses that are not reserved or already mapped.
        let status = unsafe { (self.ranges()?.map)(address, bytes as usize, 0, physical.0, 0) };
        self.check("cuMemMap", status)
    }

    pub(super) fn unmap(&self, address: u64, bytes: u64) -> Result<(), Failure> {
        // SAFETY: the library refuses what is not one whole map; no kernel uses it (the caller's books).
        let status = unsafe { (self.ranges()?.unmap)(address, bytes as usize) };
        self.check("cuMemUnmap", status)
    }

    /// Lets the device read and write mapped addresses.
    pub(super) fn set_access(
        &self,
        address: u64,
        bytes: u64,
        device: c_int,
    ) -> Result<(), Failure> {
        let access = CUmemAccessDesc {
            location: location(device),
            flags: CUmemAccess_flags_enum::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        let ranges = self.ranges()?;
        // SAFETY: the pointer is valid for the call, and one element is behind it.
        let status = unsafe { (ranges.set_access)(address, bytes as usize, &access, 1) };
        self.check("cuMemSetAccess", status)
    }

    fn ranges(&self) -> Result<Ranges, Failure> {
        self.ranges.map_err(|symbol| Failure {
            call: symbol,
            status: 0,
            message: "the driver library does not have it".to_owned(),
        })
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), Failure> {
        if status == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: the pointer is valid for the call.
        let known = unsafe { (self.basic.error_name)(status, &mut name) };
        let message = if known == 0 && !name.is_null() {
            // SAFETY: the library gives a static string that ends with a zero.
            let name = unsafe { CStr::from_ptr(name) };
            format!("{} ({status})", name.to_string_lossy())
        } else {
            format!("error {status}")
        };
        Err(Failure {
            call,
            status,
            message,
        })
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
