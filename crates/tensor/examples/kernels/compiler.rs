//! NVIDIA's run-time compiler, from sources to PTX.

use libloading::{Library, Symbol};
use std::error::Error;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type GetText = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The loaded library.
pub struct Compiler {
    library: Library,
}

impl Compiler {
    /// Loads the library at `path`.
    pub fn open(path: &Path) -> Result<Compiler, Box<dyn Error>> {
        // Its built-in headers are a library of their own beside it, which it looks for by name.
        let builtins = path.with_file_name("libnvrtc-builtins.so.11.8");
        // SAFETY: NVIDIA's libraries may be initialised at any time, on any thread.
        let library = unsafe {
            std::mem::forget(Library::new(&builtins)?);
            Library::new(path)?
        };
        Ok(Compiler { library })
    }

    /// PTX of all kernels in the working directory for a virtual architecture.
    pub fn ptx(&self, architecture: u32) -> Result<String, Box<dyn Error>> {
        const NAME: &str = "kernels.cu";
        let source = CString::new(std::fs::read_to_string(NAME)?)?;
        let name = CString::new(NAME)?;
        let options = [
            format!("--gpu-architecture=compute_{architecture}"),
            "--std=c++17".to_owned(),
            // A sum has the same bits in every kernel: only what says multiply_add is contracted.
            "--fmad=false".to_owned(),
            "--include-path=.".to_owned(),
        ];
        let options = options
            .map(CString::new)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the signatures are those of nvrtc.h; each pointer is to a string that ends in 0,
        // or to room of the size that the library itself named.
        unsafe {
            let create: Symbol<'_, Create> = self.library.get(b"nvrtcCreateProgram\0")?;
            let compile: Symbol<'_, Compile> = self.library.get(b"nvrtcCompileProgram\0")?;
            let destroy: Symbol<'_, Destroy> = self.library.get(b"nvrtcDestroyProgram\0")?;
            let mut program = ptr::null_mut();
            let status = create(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            );
            if status != 0 {
                return Err(format!("nvrtcCreateProgram: {status}").into());
            }
            let status = compile(program, options.len() as c_int, options.as_ptr());
            let log = self.text(
                program,
                b"nvrtcGetProgramLogSize\0",
                b"nvrtcGetProgramLog\0",
            )?;
            let ptx = match status {
                0 => self.text(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0"),
                _ => Err(format!("compute_{architecture}: {log}").into()),
            };
            destroy(&mut program);
            if log.contains("warning") {
                return Err(format!("compute_{architecture}: {log}").into());
            }
            ptx
        }
    }

    /// # Safety
    /// `program` is one of this library's, and the names are those of a size and of its text.
    unsafe fn text(
        &self,
        program: Program,
        size: &[u8],
        text: &[u8],
    ) -> Result<String, Box<dyn Error>> {
        // SAFETY: as the caller says.
        unsafe {
            let get_size: Symbol<'_, GetSize> = self.library.get(size)?;
            let get_text: Symbol<'_, GetText> = self.library.get(text)?;
            let mut bytes = 0;
            get_size(program, &mut bytes);
            let mut out = vec![0_u8; bytes];
            get_text(program, out.as_mut_ptr().cast());
            let end = out.iter().position(|byte| *byte == 0).unwrap_or(bytes);
            out.truncate(end);
            Ok(String::from_utf8(out)?)
        }
    }
}
