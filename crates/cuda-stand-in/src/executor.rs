//! The thread that runs a device's work, and the signal handler that detects access to unmapped
//! memory.
//!
//! A faulting kernel cannot be unwound: it runs on a stack of its own, in frames of foreign code.
//! Its thread is therefore suspended for ever, the waiting thread is notified, and the device has
//! no executor until its context is created again.

use crate::kernels::{Kernel, Shape};
use crate::settings::Order;
use crate::status::{ILLEGAL_ADDRESS, LAUNCH_FAILED, Status};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, mpsc};

/// A unit of work.
#[derive(Clone, Debug)]
pub enum Step {
    /// A copy between device memory and pinned host memory, or within either.
    Copy {
        /// Destination.
        to: u64,
        /// Source.
        from: u64,
        /// Length, in bytes.
        bytes: u64,
    },
    /// A write of bytes that were copied at submission.
    Write {
        /// Destination.
        to: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A fill with one byte value.
    Fill {
        /// Destination.
        to: u64,
        /// The value.
        byte: u8,
        /// Length, in bytes.
        bytes: u64,
    },
    /// A kernel launch.
    Launch {
        /// The kernel.
        kernel: Kernel,
        /// Grid and block.
        shape: Shape,
        /// Copies of the parameters, as whole words.
        parameters: Arc<[Box<[u64]>]>,
        /// Order in which the threads of a block run.
        order: Order,
    },
    /// A scripted fault.
    Fault(Status),
}

/// A fault: the status that every later call returns, and a message.
pub type Fault = (Status, String);

/// A thread that runs work.
#[derive(Debug)]
pub struct Executor {
    work: mpsc::Sender<Vec<Step>>,
    shared: Arc<Shared>,
    done: std::fs::File,
}

#[derive(Debug)]
struct Shared {
    /// Completion pipe, written by the thread or by its signal handler.
    pipe: OwnedFd,
    /// Address of the fault.
    address: AtomicU64,
    /// Steps completed.
    steps: AtomicU64,
    /// Error of the last step, if it was not a memory fault.
    message: std::sync::Mutex<Option<Fault>>,
}

const DONE: u8 = b'd';
const REFUSED: u8 = b'r';
const FAULTED: u8 = b'f';

thread_local! {
    /// Shared state of this thread's executor.
    static OWN: Cell<*const Shared> = const { Cell::new(null()) };
}

impl Executor {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system cannot create a thread.
    pub fn start() -> std::io::Result<Executor> {
        install_handler();
        let mut ends = [0; 2];
        // SAFETY: there is room for both ends.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the pipe's ends are nobody else's.
        let (read, write) =
            unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        let shared = Arc::new(Shared {
            pipe: write,
            address: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            message: std::sync::Mutex::new(None),
        });
        let (work, list) = mpsc::channel::<Vec<Step>>();
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("cuda-stand-in".to_owned())
            .spawn(move || serve(&own, &list))?;
        Ok(Executor {
            work,
            shared,
            done: read.into(),
        })
    }

    /// Runs the steps in order and waits for them. After a fault, the executor is unusable.
    ///
    /// # Errors
    /// The fault or refusal of a step.
    pub fn run(&mut self, steps: Vec<Step>) -> Result<(), Fault> {
        let gone = || (LAUNCH_FAILED, "the executor is gone".to_owned());
        let names: Vec<&'static str> = steps.iter().map(Step::name).collect();
        self.shared.steps.store(0, Ordering::SeqCst);
        self.work.send(steps).map_err(|_| gone())?;
        let mut byte = [0];
        self.done.read_exact(&mut byte).map_err(|_| gone())?;
        match byte[0] {
            DONE => Ok(()),
            FAULTED => {
                let address = self.shared.address.load(Ordering::SeqCst);
                let step = self.shared.steps.load(Ordering::SeqCst) as usize;
                let name = names.get(step).copied().unwrap_or("a step");
                Err((
                    ILLEGAL_ADDRESS,
                    format!("{name} touched {address:#x}, which is not mapped"),
                ))
            }
            _ => Err((self.shared.message.lock())
                .ok()
                .and_then(|mut message| message.take())
                .unwrap_or_else(gone)),
        }
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Copy { .. } => "a copy",
            Step::Write { .. } => "a write",
            Step::Fill { .. } => "a fill",
            Step::Launch { kernel, .. } => kernel.name(),
            Step::Fault(_) => "a fault by script",
        }
    }

    fn run(&self) -> Result<(), Fault> {
        match self {
            Step::Copy { to, from, bytes } => {
                // SAFETY: the device has shown that both ends were memory when the copy was asked
                // for; if one is not any longer, the handler ends the thread.
                unsafe {
                    std::ptr::copy(*from as *const u8, *to as *mut u8, *bytes as usize);
                }
                Ok(())
            }
            Step::Write { to, bytes } => {
                // SAFETY: the bytes are the step's own, and the device has shown that the target
                // was memory when the write was asked for; if it is not any longer, the handler
                // ends the thread.
                unsafe {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), *to as *mut u8, bytes.len());
                }
                Ok(())
            }
            Step::Fill { to, byte, bytes } => {
                // SAFETY: the device has shown that the target was memory when the fill was
                // asked for; if it is not any longer, the handler ends the thread.
                unsafe { std::ptr::write_bytes(*to as *mut u8, *byte, *bytes as usize) };
                Ok(())
            }
            Step::Launch {
                kernel,
                shape,
                parameters,
                order,
            } => (kernel.run(shape, *order, parameters))
                .map_err(|message| (LAUNCH_FAILED, format!("{}: {message}", kernel.name()))),
            Step::Fault(status) => Err((*status, "a fault by script".to_owned())),
        }
    }
}

fn serve(shared: &Arc<Shared>, list: &mpsc::Receiver<Vec<Step>>) {
    OWN.set(Arc::as_ptr(shared));
    let mut stack = vec![0_u8; 64 << 10];
    let alternate = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: the memory stays until the thread ends, which takes the alternate stack away first.
    unsafe { libc::sigaltstack(&alternate, null_mut()) };
    for steps in list {
        let mut result = Ok(());
        for step in &steps {
            result = step.run();
            if result.is_err() {
                break;
            }
            shared.steps.fetch_add(1, Ordering::SeqCst);
        }
        let refused = result.err();
        let byte = if refused.is_some() { REFUSED } else { DONE };
        if let Ok(mut message) = shared.message.lock() {
            *message = refused;
        }
        say(shared.pipe.as_raw_fd(), byte);
    }
    let none = libc::stack_t {
        ss_sp: null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    // SAFETY: takes the alternate stack away before its memory goes.
    unsafe { libc::sigaltstack(&none, null_mut()) };
}

fn say(pipe: i32, byte: u8) {
    // SAFETY: one byte is behind the pointer. A write to a pipe is allowed in a signal handler.
    unsafe { libc::write(pipe, (&raw const byte).cast(), 1) };
}

const SIGNALS: [i32; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];

/// Signal actions before installation.
static mut BEFORE: [Option<libc::sigaction>; SIGNALS.len()] = [None; SIGNALS.len()];

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (index, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: an action of zeros is one without flags and mask.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: an action of zeros is one without flags and mask.
            let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: both actions are valid for the call.
            if unsafe { libc::sigaction(signal, &action, &mut before) } == 0 {
                // SAFETY: only this closure writes, once, before any executor runs.
                unsafe { BEFORE[index] = Some(before) };
            }
        }
    });
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let own = OWN.get();
    if own.is_null() {
        // Not a fault of an executor: the previous action handles the same instruction again.
        let index = SIGNALS.iter().position(|&known| known == signal);
        // SAFETY: written before the handler was installed for the first executor, and only read
        // since.
        let before = index.and_then(|index| unsafe { BEFORE[index] });
        // SAFETY: an action of zeros is the system's own.
        let action = before.unwrap_or_else(|| unsafe { std::mem::zeroed() });
        // SAFETY: the action is one that the system gave, or its own.
        unsafe { libc::sigaction(signal, &action, null_mut()) };
        return;
    }
    // SAFETY: the executor's thread keeps what it shares alive, and the system gives the address of
    // a fault with these signals.
    let (shared, address) = unsafe { (&*own, (*info).si_addr() as u64) };
    shared.address.store(address, Ordering::SeqCst);
    say(shared.pipe.as_raw_fd(), FAULTED);
    loop {
        // SAFETY: waits for signals, for ever.
        unsafe { libc::pause() };
    }
}

/// Writes a line to standard error.
pub fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "cuda-stand-in: {line}");
}
