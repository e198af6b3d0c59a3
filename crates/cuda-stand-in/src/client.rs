//! Client interface for tests: locating the library, loading it, and scripting its devices.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// PTX of three small kernels that the library includes: `demo_fill(values, value, count)`,
/// `demo_scale(values, factor, count)` and `demo_add(sums, left, right, count)`.
pub const DEMO_PTX: &str = include_str!("../demo/demo.ptx");

/// The library's handle in this process, as an integer that threads can share.
static LOADED: OnceLock<usize> = OnceLock::new();

/// The library's file, next to the program that was built with this crate.
///
/// # Panics
/// If it is missing: the crate was built without its shared library.
pub fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folders = program.ancestors().skip(1).take(2);
    let mut candidates = folders
        .flat_map(|folder| [folder.to_owned(), folder.join("deps")])
        .map(|folder| folder.join("libcuda_stand_in.so"));
    candidates
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no libcuda_stand_in.so beside {}", program.display()))
}

/// Installs the library in a folder under the names that programs look up, without the named
/// functions, like an older driver.
///
/// # Errors
/// If a file cannot be read or written, or the library lacks a named function.
pub fn install(folder: &Path, without: &[&str]) -> io::Result<PathBuf> {
    let mut bytes = std::fs::read(library())?;
    for name in without {
        // Symbol names lie in one table, each between zero bytes. A renamed symbol is never looked
        // up.
        let text = [b"\0", name.as_bytes(), b"\0"].concat();
        let place = (bytes.windows(text.len()))
            .position(|window| window == text)
            .ok_or_else(|| io::Error::other(format!("the library has no {name}")))?;
        bytes[place + 1] = b'-';
    }
    let path = folder.join("libcuda.so");
    std::fs::write(&path, bytes)?;
    for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
        let second = folder.join(name);
        if !second.exists() {
            std::os::unix::fs::symlink("libcuda.so", second)?;
        }
    }
    Ok(path)
}

/// Environment variable with the argument of a test that runs in its own process.
const CHILD_ARGUMENT: &str = "CUDA_STAND_IN_TEST_ARGUMENT";

/// Runs one test of this program in its own process, which finds the libraries of `folder` first.
/// There, [`child_argument`] returns `argument`.
///
/// # Panics
/// If the test fails, or this program has no test of that full name.
pub fn run_in_child(test: &str, argument: &str, folder: Option<&Path>) {
    run_in_child_with(&[], test, argument, folder);
}

/// As [`run_in_child`], with these environment variables.
///
/// # Panics
/// As [`run_in_child`].
pub fn run_in_child_with(
    variables: &[(&str, &str)],
    test: &str,
    argument: &str,
    folder: Option<&Path>,
) {
    let program = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(["--exact", test])
        .envs(variables.iter().copied())
        .env(CHILD_ARGUMENT, argument);
    if let Some(folder) = folder {
        command.env("LD_LIBRARY_PATH", folder);
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{test} with {argument}: {output:?}"
    );
}

/// The argument of [`run_in_child`] in the process that it made; `None` elsewhere.
pub fn child_argument() -> Option<String> {
    std::env::var(CHILD_ARGUMENT).ok()
}

/// Loads the library into this process. Later look-ups of the driver's library by name find it.
/// Calls after the first do nothing.
///
/// # Panics
/// If it cannot be loaded.
pub fn load(path: &Path) {
    LOADED.get_or_init(|| {
        let text = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        // SAFETY: the path ends with a zero; the library's initialisers are those of the Rust and
        // the C++ runtime.
        let handle = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!handle.is_null(), "{} cannot be loaded", path.display());
        handle as usize
    });
}

fn symbol(name: &str) -> *mut c_void {
    if LOADED.get().is_none() {
        load(&library());
    }
    let handle = LOADED.get().copied().unwrap_or_default();
    let text = CString::new(name).unwrap_or_default();
    // SAFETY: the handle is that of a loaded library, and the name ends with a zero.
    let address = unsafe { libc::dlsym(handle as *mut c_void, text.as_ptr()) };
    assert!(!address.is_null(), "the library has {name}");
    address
}

/// One device of the library in this process. Concurrent tests use different devices.
#[derive(Clone, Copy, Debug)]
pub struct StandIn {
    ordinal: u32,
}

impl StandIn {
    /// Number of devices in a test process.
    pub const DEVICES: u32 = 64;

    /// Resets a device to these settings, such as `memory=268435456 generation=75`.
    ///
    /// # Panics
    /// If the settings are invalid.
    pub fn new(ordinal: u32, settings: &str) -> StandIn {
        // SAFETY: the library defines the function so.
        let devices: extern "C" fn(c_uint) =
            unsafe { std::mem::transmute(symbol("stand_in_devices")) };
        devices(StandIn::DEVICES);
        let device = StandIn { ordinal };
        device.tell("stand_in_configure", settings);
        device
    }

    /// The device's ordinal.
    pub fn ordinal(self) -> u32 {
        self.ordinal
    }

    /// Changes settings, such as `fail=any:3` or `taken=1048576`.
    ///
    /// # Panics
    /// If the settings are invalid.
    pub fn set(self, settings: &str) {
        self.tell("stand_in_set", settings);
    }

    /// A counter by name: `launches`, `used`, `waits`, or a function such as `cuMemAlloc`.
    pub fn count(self, name: &str) -> u64 {
        // SAFETY: the library defines the function so.
        let count: unsafe extern "C" fn(c_uint, *const c_char) -> u64 =
            unsafe { std::mem::transmute(symbol("stand_in_count")) };
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the name ends with a zero.
        unsafe { count(self.ordinal, name.as_ptr()) }
    }

    /// Functions called for the device, with their counts.
    pub fn calls(self) -> Vec<(&'static str, u64)> {
        type Calls = unsafe extern "C" fn(c_uint, usize, *mut *const c_char, *mut usize) -> u64;
        // SAFETY: the library defines the function so.
        let calls: Calls = unsafe { std::mem::transmute(symbol("stand_in_calls")) };
        let one = |index| {
            let (mut name, mut length) = (std::ptr::null(), 0);
            // SAFETY: both places are valid for the call.
            let count = unsafe { calls(self.ordinal, index, &mut name, &mut length) };
            if count == 0 || name.is_null() {
                return None;
            }
            // SAFETY: the library's names are constant text of that length, and it is never
            // unloaded.
            let name = unsafe { std::slice::from_raw_parts(name.cast::<u8>(), length) };
            Some((std::str::from_utf8(name).unwrap_or_default(), count))
        };
        (0..).map_while(one).collect()
    }

    /// Cancels scripted failures; returns whether one was still pending.
    pub fn fail_none(self) -> bool {
        let failing = self.count("failing") != 0;
        self.set("fail=none");
        failing
    }

    /// Runs `work` in a thread of another library's: the device's context is current, retained by
    /// that library. Returns the device whose context is current afterwards.
    ///
    /// # Panics
    /// If the device refuses, or `work` panics.
    pub fn while_current(self, work: impl FnOnce()) -> Option<u32> {
        type Place = unsafe extern "C" fn(*mut *mut c_void) -> c_uint;
        type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_uint;
        // SAFETY: the library defines the functions so.
        let (retain, current, make_current, release): (
            Retain,
            Place,
            extern "C" fn(*mut c_void) -> c_uint,
            extern "C" fn(c_int) -> c_uint,
        ) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Retain>(symbol("cuDevicePrimaryCtxRetain")),
                std::mem::transmute::<*mut c_void, Place>(symbol("cuCtxGetCurrent")),
                std::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void) -> c_uint>(symbol(
                    "cuCtxSetCurrent",
                )),
                std::mem::transmute::<*mut c_void, extern "C" fn(c_int) -> c_uint>(symbol(
                    "cuDevicePrimaryCtxRelease_v2",
                )),
            )
        };
        let ordinal = self.ordinal as c_int;
        let (mut own, mut after) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the place is valid for the call.
        assert_eq!(unsafe { retain(&mut own, ordinal) }, 0, "it is retained");
        assert_eq!(make_current(own), 0, "it is made current");
        work();
        // SAFETY: the place is valid for the call.
        assert_eq!(unsafe { current(&mut after) }, 0, "it is known");
        make_current(std::ptr::null_mut());
        assert_eq!(release(ordinal), 0, "it is released");
        // The lowest byte of a context is its device's ordinal, counted from 1.
        (after as u32 & 0xff).checked_sub(1)
    }

    /// Asserts that nothing is left on the device and that no misuse was counted.
    ///
    /// # Panics
    /// Otherwise.
    pub fn expect_clean(self, when: &str) {
        assert_eq!(self.count("held"), 0, "{when}: nothing is held");
        assert_eq!(
            self.count("abandoned"),
            0,
            "{when}: nothing was left behind"
        );
        assert_eq!(
            self.count("misuses"),
            0,
            "{when}: every call was one that a driver can obey"
        );
    }

    fn tell(self, function: &str, text: &str) {
        // SAFETY: the library defines both functions that are asked for so.
        let tell: unsafe extern "C" fn(c_uint, *const c_char) -> c_int =
            unsafe { std::mem::transmute(symbol(function)) };
        let settings = CString::new(text).unwrap_or_default();
        // SAFETY: the text ends with a zero.
        let read = unsafe { tell(self.ordinal, settings.as_ptr()) };
        assert!(read != 0, "{text}: the settings cannot be read");
    }
}

/// Longer than any test takes on any machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `work` in a thread and aborts the process if it hangs.
///
/// # Panics
/// If `work` does.
pub fn within_patience(name: &str, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let (done, finished) = sync_channel(1);
        let worker = scope.spawn(move || {
            work();
            // The receiver is gone if it took too long.
            let _ = done.send(());
        });
        if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
