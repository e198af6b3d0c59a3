//! `sottovoce doctor --device`: one device's own memory needs, the cost of reaching it, and a
//! comparison of its results with the CPU's. The output can be pasted into a report.

use crate::commands::Outcome;
use crate::output::print::output;
use crate::output::size::mebibytes;
use serde_json::json;
use sottovoce::DeviceChoice;
use sottovoce::device::{self, Opened};
use sottovoce_lab::doctor::{self, DeviceFigures, OperationCheck, SpeechCheck};
use sottovoce_memory::driver::cuda::{self, CudaContext, CudaDevice, Kernel};
use std::io::Write;
use std::process::ExitCode;

/// Note about the hardware on which CUDA has been tested.
const EXPERIMENTAL: &str = "experimental: has run on an NVIDIA H200 only";

/// Results of the check.
struct Findings {
    opened: Opened,
    card: Option<CudaDevice>,
    figures: DeviceFigures,
    checks: Vec<OperationCheck>,
    /// Comparisons of whole sentences, unless the device is the CPU.
    speech: Vec<SpeechCheck>,
    /// The host's budget for voices and samples.
    host_budget_bytes: Option<u64>,
}

/// Opens a device, of whose memory `budget_bytes` may be used, and looks at all that can be known
/// without a model; the exit code says whether it computes what the CPU does.
pub(super) fn check(choice: DeviceChoice, budget_bytes: Option<u64>, json: bool) -> Outcome {
    let opened = device::open(choice, 0, budget_bytes)?;
    let checks = doctor::self_test(&*opened.device, &opened.memory)?;
    let figures = doctor::figures(&opened)?;
    let speech = match opened.choice {
        DeviceChoice::Cpu => Vec::new(),
        choice => doctor::speech_checks(choice)?,
    };
    let card = match opened.choice {
        DeviceChoice::Cuda(ordinal) => Some(cuda::device(ordinal)?),
        _ => None,
    };
    let findings = Findings {
        host_budget_bytes: doctor::machine().budget_max_bytes,
        opened,
        card,
        figures,
        checks,
        speech,
    };
    let mut out = output();
    match json {
        true => writeln!(out, "{:#}", findings.json())?,
        false => out.write_all(findings.text().as_bytes())?,
    }
    Ok(match findings.held() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Findings {
    fn held(&self) -> bool {
        self.checks.iter().all(|check| check.holds) && self.speech.iter().all(|check| check.holds)
    }

    fn status(&self) -> Option<&'static str> {
        self.card.as_ref().map(|_| EXPERIMENTAL)
    }

    fn context(&self) -> Option<&CudaContext> {
        self.opened.context.as_deref()
    }

    fn json(&self) -> serde_json::Value {
        let Opened {
            device,
            memory,
            budget_bytes,
            ..
        } = &self.opened;
        let card_memory = (self.context()).and_then(|context| context.device_memory().ok());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": device.name(),
            "status": self.status(),
            "card": self.card,
            "own_bytes": device.own_bytes(),
            "budget_bytes": budget_bytes,
            "ledgers": {
                "device": {
                    "budget_bytes": budget_bytes,
                    "own_bytes": device.own_bytes(),
                    "driver": self.context().map(CudaContext::driver_bytes),
                    "limits": self.context().map(CudaContext::limits),
                    "held_bytes": memory.statistics().held_bytes(),
                    "unit_bytes": device.unit_bytes(),
                    "free_bytes": card_memory.map(|memory| memory.free),
                    "total_bytes": card_memory.map(|memory| memory.total),
                },
                "host": {
                    "budget_bytes": self.host_budget_bytes,
                    "pinned_bytes": device.pinned_bytes(),
                },
            },
            "figures": self.figures,
            "counts": self.context().map(CudaContext::counts),
            "operations": self.checks,
            "speech": self.speech,
            "held": self.held(),
        })
    }

    fn text(&self) -> String {
        let Opened {
            choice,
            device,
            budget_bytes,
            ..
        } = &self.opened;
        let mut lines = vec![
            format!(
                "program       sottovoce {}, {} {}",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
            format!("device        {} ({choice})", device.name()),
        ];
        if let Some(status) = self.status() {
            lines.push(format!("status        {status}"));
        }
        if let Some(card) = &self.card {
            lines.push(format!(
                "card          {}, compute capability {}, {} in all, {} free, driver for CUDA {}.{}",
                card.name,
                card.generation,
                mebibytes(card.total_bytes),
                mebibytes(card.free_bytes),
                card.driver_version / 1000,
                card.driver_version % 1000 / 10
            ));
            if let Some(reason) = card.ranges_off {
                lines.push(format!("off           expandable segments: {reason}"));
            }
            let counts = self.context().map(CudaContext::counts);
            if counts.is_some_and(|counts| counts.early_launches == 0) {
                lines.push(format!(
                    "off           kernels that begin early: they take CUDA 12.4 and machine code \
                     for compute capability {} or later",
                    Kernel::FIRST_TO_BEGIN_EARLY
                ));
            }
        }
        let known = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
        lines.push(format!(
            "budget        {} on the device, {} on the host",
            known(*budget_bytes),
            known(self.host_budget_bytes)
        ));
        lines.push(format!(
            "takes itself  {}, and {} pinned on the host",
            mebibytes(device.own_bytes()),
            mebibytes(device.pinned_bytes())
        ));
        if let Some(bytes) = self.context().map(CudaContext::driver_bytes) {
            lines.push(format!(
                "  the driver: context {}, modules {}, stacks {}, graphs {}",
                known(bytes.context),
                mebibytes(bytes.modules),
                mebibytes(bytes.stacks),
                mebibytes(bytes.graphs)
            ));
        }
        let figures = &self.figures;
        lines.push(format!(
            "copies        {:.2} GB/s to the device, {:.2} GB/s back",
            figures.write_bytes_a_second / 1e9,
            figures.read_bytes_a_second / 1e9
        ));
        lines.push(format!(
            "launches      {:.1} µs each, {:.1} µs there and back",
            figures.launch_seconds * 1e6,
            figures.round_trip_seconds * 1e6
        ));
        for check in &self.checks {
            let verdict = match check.holds {
                true => "as the CPU",
                false => "NOT as the CPU",
            };
            lines.push(format!(
                "  {:<36} {verdict}, relative difference {:.1e}",
                check.operation, check.difference
            ));
        }
        let failed = self.checks.iter().filter(|check| !check.holds).count();
        lines.push(format!(
            "operations    {} of {} as the CPU",
            self.checks.len() - failed,
            self.checks.len()
        ));
        for check in &self.speech {
            let verdict = match check.holds {
                true => "as the CPU",
                false => "NOT as the CPU",
            };
            lines.push(format!(
                "speech        {}: {} tokens ({} on the CPU), relative difference {:.1e}: {verdict}",
                check.model, check.tokens, check.tokens_expected, check.difference
            ));
            if let Some(bytes) = check.device_bytes {
                lines.push(format!(
                    "              {} in the ledger, {} gone from the device",
                    mebibytes(check.ledger_bytes),
                    mebibytes(bytes)
                ));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
