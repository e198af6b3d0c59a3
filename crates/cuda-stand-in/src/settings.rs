//! Settings of a device and its scripted failures, from the environment or from a test.
//!
//! Both sources use the same keys: `memory` in a test is `CUDA_STAND_IN_MEMORY` in the environment.

use crate::status::{ILLEGAL_ADDRESS, Status};
use std::fmt::Display;
use std::str::FromStr;

/// The prefix of every variable.
const PREFIX: &str = "CUDA_STAND_IN_";
/// Every key of a device.
const KEYS: [&str; 16] = [
    "memory",
    "threads",
    "taken",
    "addresses",
    "generation",
    "ranges",
    "driver",
    "order",
    "context",
    "module",
    "graph",
    "node",
    "fail",
    "lost",
    "fault",
    "fill",
];

/// Order in which the threads of a block run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By ascending number.
    #[default]
    Natural,
    /// By descending number.
    Reverse,
    /// Shuffled with this seed.
    Shuffled(u64),
}

/// A call that is scripted to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The function, or `any`.
    pub call: String,
    /// Number of such calls before it.
    pub calls_ahead: u64,
    /// Its status; `None` for the call's usual error.
    pub status: Option<Status>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of the device, in bytes.
    pub memory: u64,
    /// Bytes held by other processes.
    pub taken: u64,
    /// Bytes of address space.
    pub addresses: u64,
    /// 10 × major + minor of the compute capability.
    pub generation: u32,
    /// Whether the device has virtual memory management.
    pub ranges: bool,
    /// The newest CUDA version that the driver supports: 1000 × major + 10 × minor.
    pub driver: i32,
    /// Order in which the threads of a block run.
    pub order: Order,
    /// Threads that the device can run at once. Each has a stack in device memory from the first
    /// launch on.
    pub threads: u64,
    /// Device bytes of a context.
    pub context: u64,
    /// Device bytes of a module.
    pub module: u64,
    /// Device bytes of an executable graph, excluding its nodes.
    pub graph: u64,
    /// Device bytes of a node of an executable graph.
    pub node: u64,
    /// The next call to fail.
    pub fail: Option<Failing>,
    /// After this number of calls the device is lost: every call fails with this status.
    pub lost: Option<(u64, Status)>,
    /// The launch after this number of launches faults with this status.
    pub fault: Option<(u64, Status)>,
    /// Whether fresh memory is filled with NaN bytes instead of zeros.
    pub fill: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            memory: 24564 << 20,
            taken: 0,
            addresses: 1 << 38,
            generation: 86,
            ranges: true,
            driver: 12040,
            order: Order::Natural,
            threads: 0,
            context: 0,
            module: 0,
            graph: 0,
            node: 0,
            fail: None,
            lost: None,
            fault: None,
            fill: false,
        }
    }
}

impl Settings {
    /// Settings of a device from the environment. By default, every second device is of an older
    /// generation.
    ///
    /// # Errors
    /// Names the invalid variable.
    pub fn of_device(ordinal: usize) -> Result<Settings, String> {
        let mut settings = Settings {
            generation: if ordinal.is_multiple_of(2) { 86 } else { 75 },
            ..Settings::default()
        };
        for key in KEYS {
            let variable = format!("{PREFIX}{}", key.to_ascii_uppercase());
            if let Some(value) = variable_text(&variable) {
                settings
                    .set(key, &value)
                    .map_err(|problem| format!("{variable}={value}: {problem}"))?;
            }
        }
        Ok(settings)
    }

    /// Applies `text`: pairs `key=value`, separated by spaces.
    ///
    /// # Errors
    /// Names the invalid pair.
    pub fn apply(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split_whitespace() {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair}: key=value is expected"))?;
            self.set(key, value)
                .map_err(|problem| format!("{pair}: {problem}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "memory" => self.memory = number(value)?,
            "taken" => self.taken = number(value)?,
            "addresses" => self.addresses = number(value)?,
            "generation" => self.generation = number(value)?,
            "ranges" => self.ranges = switch(value)?,
            "driver" => self.driver = number(value)?,
            "threads" => self.threads = number(value)?,
            "order" => self.order = order(value)?,
            "context" => self.context = number(value)?,
            "module" => self.module = number(value)?,
            "graph" => self.graph = number(value)?,
            "node" => self.node = number(value)?,
            "fail" => self.fail = unless_none(value, failing)?,
            "lost" => self.lost = unless_none(value, |value| counted(value, 719))?,
            "fault" => self.fault = unless_none(value, |value| counted(value, ILLEGAL_ADDRESS))?,
            "fill" => self.fill = switch(value)?,
            _ => return Err(format!("the keys are {}", KEYS.join(", "))),
        }
        Ok(())
    }
}

/// An environment variable, if it is set and not empty.
pub fn variable_text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off is expected".to_owned()),
    }
}

fn order(text: &str) -> Result<Order, String> {
    match text.split_once(':') {
        None if text == "natural" => Ok(Order::Natural),
        None if text == "reverse" => Ok(Order::Reverse),
        Some(("shuffled", seed)) => Ok(Order::Shuffled(number(seed)?)),
        _ => Err("natural, reverse or shuffled:SEED is expected".to_owned()),
    }
}

fn unless_none<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        "none" => Ok(None),
        _ => parse(text).map(Some),
    }
}

/// `CALL:N` or `CALL:N:STATUS`.
fn failing(text: &str) -> Result<Failing, String> {
    let mut parts = text.split(':');
    let (Some(call), Some(count), status, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("CALL:N, CALL:N:STATUS or none is expected; CALL may be any".to_owned());
    };
    Ok(Failing {
        call: call.to_owned(),
        calls_ahead: number(count)?,
        status: status.map(number).transpose()?,
    })
}

/// `N` or `N:STATUS`.
fn counted(text: &str, usual: Status) -> Result<(u64, Status), String> {
    match text.split_once(':') {
        Some((count, status)) => Ok((number(count)?, number(status)?)),
        None => Ok((number(text)?, usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_set_and_what_is_wrong_is_named() {
        let mut settings = Settings::default();
        settings
            .apply("memory=4096 taken=1 addresses=8 generation=75 ranges=off driver=11080")
            .unwrap();
        settings
            .apply("order=shuffled:7 threads=5 context=1 module=2 graph=3 node=4 fill=on")
            .unwrap();
        settings
            .apply("fail=cuMemAlloc:3:2 lost=9:999 fault=0")
            .unwrap();
        assert_eq!(settings.order, Order::Shuffled(7));
        assert_eq!(
            settings.fail,
            Some(Failing {
                call: "cuMemAlloc".to_owned(),
                calls_ahead: 3,
                status: Some(2)
            })
        );
        assert_eq!(
            (settings.lost, settings.fault),
            (Some((9, 999)), Some((0, 700)))
        );
        settings.apply("fail=none lost=none fault=none").unwrap();
        assert_eq!(
            (settings.fail.clone(), settings.lost, settings.fault),
            (None, None, None)
        );
        for wrong in ["memory", "memory=x", "order=random", "fail=3", "colour=red"] {
            let problem = settings.apply(wrong).unwrap_err();
            assert!(problem.starts_with(wrong), "{problem}");
        }
    }
}
