//! Throws PyTorch's `c10::OutOfMemoryError` from a function that PyTorch calls: a pluggable
//! allocator has no other way to say no, and PyTorch uses whatever address it returns.
//!
//! The exception is put together as a C++ compiler would: the constructor of its base class
//! `c10::Error`, the virtual table and the type of `c10::OutOfMemoryError` come from PyTorch's
//! libraries, which are loaded where this is called; allocation and throwing from the C++ runtime.
//! Both layouts of `std::string` are known, as versions before 2.7 used the older one. Where
//! something is missing, the process ends with the message: going on would be a write to an
//! address that nobody owns.

/// Throws it with this text.
pub fn throw_out_of_memory(text: &str) -> ! {
    #[cfg(target_os = "linux")]
    linux::throw(text);
    #[allow(unreachable_code)]
    give_up(text)
}

/// Ends the process: there is nobody who could take an error.
fn give_up(text: &str) -> ! {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "sottovoce under PyTorch: {text}");
    std::process::abort()
}

#[cfg(target_os = "linux")]
mod linux {
    use libloading::os::unix::{Library, RTLD_LAZY};
    use std::ffi::{c_char, c_int, c_void};

    /// `RTLD_NOLOAD`: only what the process has already.
    const LOADED_ONLY: c_int = 4;
    /// More than any version's `c10::OutOfMemoryError`.
    const EXCEPTION_BYTES: usize = 1024;
    /// Behind the offset to the top and the type in a virtual table.
    const FIRST_FUNCTION: usize = 2;

    const TABLE: &[u8] = b"_ZTVN3c1016OutOfMemoryErrorE\0";
    const TYPE: &[u8] = b"_ZTIN3c1016OutOfMemoryErrorE\0";
    const CONSTRUCTOR: &[u8] = b"_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0";
    const OLD_CONSTRUCTOR: &[u8] = b"_ZN3c105ErrorC2ENS_14SourceLocationESs\0";

    /// `c10::SourceLocation`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct SourceLocation {
        function: *const c_char,
        file: *const c_char,
        line: u32,
    }

    /// `std::string` of the newer layout, as it looks with a buffer of its own.
    #[repr(C)]
    struct NewString {
        characters: *mut u8,
        length: usize,
        capacity: usize,
        unused: usize,
    }

    /// What lies before the characters of a `std::string` of the older layout.
    #[repr(C)]
    struct OldHead {
        length: usize,
        capacity: usize,
        /// Holders beside the first.
        others: c_int,
    }

    type Construct = unsafe extern "C-unwind" fn(*mut c_void, SourceLocation, *mut c_void);
    type Throw = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *mut c_void) -> !;

    /// Returns only where a part is missing.
    pub fn throw(text: &str) {
        let Some(parts) = Parts::find() else { return };
        // SAFETY: `Parts` are of these types. The exception has room for the object, which is whole
        // before it is thrown: the base class was constructed, and the class above it adds nothing
        // but its table.
        unsafe {
            let exception = (parts.allocate)(EXCEPTION_BYTES);
            let location = SourceLocation {
                function: c"sottovoce_cuda_malloc".as_ptr(),
                file: c"sottovoce".as_ptr(),
                line: 0,
            };
            if parts.is_old {
                let mut string = old_string(text);
                (parts.construct)(exception, location, (&raw mut string).cast());
            } else {
                let mut string = new_string(text);
                (parts.construct)(exception, location, (&raw mut string).cast());
            }
            let functions = parts.table.add(FIRST_FUNCTION);
            exception.cast::<*const *mut c_void>().write(functions);
            (parts.throw)(exception, parts.kind, functions.read())
        }
    }

    /// A string that the constructor may take over or copy; then its copy here is forgotten.
    fn new_string(text: &str) -> NewString {
        NewString {
            characters: copy(text, 0),
            length: text.len(),
            capacity: text.len(),
            unused: 0,
        }
    }

    /// The address of the characters, behind their head.
    fn old_string(text: &str) -> *mut u8 {
        let head = size_of::<OldHead>();
        let start = copy(text, head);
        // SAFETY: `copy` made room for the head, which `malloc` aligns.
        unsafe {
            start.cast::<OldHead>().write(OldHead {
                length: text.len(),
                capacity: text.len(),
                others: 0,
            });
            start.add(head)
        }
    }

    /// The text with a zero behind it, `head` bytes into memory that C++'s `delete` takes.
    fn copy(text: &str, head: usize) -> *mut u8 {
        // SAFETY: the memory is as large as what is written to it; without any the process ends.
        unsafe {
            let start = libc::malloc(head + text.len() + 1).cast::<u8>();
            if start.is_null() {
                std::process::abort();
            }
            let characters = start.add(head);
            characters.copy_from_nonoverlapping(text.as_ptr(), text.len());
            characters.add(text.len()).write(0);
            start
        }
    }

    /// What the exception is made of.
    struct Parts {
        allocate: unsafe extern "C" fn(usize) -> *mut c_void,
        construct: Construct,
        is_old: bool,
        table: *const *mut c_void,
        kind: *mut c_void,
        throw: Throw,
    }

    impl Parts {
        fn find() -> Option<Parts> {
            let base = loaded("libc10.so")?;
            let cuda = loaded("libc10_cuda.so")?;
            let runtime = loaded("libstdc++.so.6")?;
            // SAFETY: the symbols are what their names say, in every version that has them.
            unsafe {
                let new = base.get::<Construct>(CONSTRUCTOR);
                let is_old = new.is_err();
                let construct = new.or_else(|_| base.get::<Construct>(OLD_CONSTRUCTOR));
                Some(Parts {
                    allocate: *runtime.get(b"__cxa_allocate_exception\0").ok()?,
                    construct: *construct.ok()?,
                    is_old,
                    table: *cuda.get(TABLE).ok()?,
                    kind: *cuda.get(TYPE).ok()?,
                    throw: *runtime.get(b"__cxa_throw\0").ok()?,
                })
            }
        }
    }

    /// A library that the process has loaded; it stays so.
    fn loaded(name: &str) -> Option<std::mem::ManuallyDrop<Library>> {
        // SAFETY: nothing is loaded, so nothing is run.
        let library = unsafe { Library::open(Some(name), RTLD_LAZY | LOADED_ONLY) };
        library.ok().map(std::mem::ManuallyDrop::new)
    }
}
