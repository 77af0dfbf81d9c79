//! The handler `ipp`. IPP has no upload of firmware in any device that is known: the System Service has resources of the type
//! `executable-firmware` (PWG 5100.22), and no printer implements them. What printers have are `printer-firmware-*`, which show
//! versions, and jobs: where the bundle says `print_job = "yes"`, the image goes as a job of `application/octet-stream`, which
//! is what some printers take from their makers' own tools. Without it the handler refuses.
//!
//! Settings: `print_job` = `no` | `yes`.

use super::upload::{Around, connect, upload};
use super::{Answer, Image, Job, Pushed};
use crate::Drivers;
use crate::access::{Access, Ipp, Trust};
use crate::http::Told;
use crate::ipp::{job_answer, job_request};

pub(super) const SETTINGS: &[&str] = &["print_job"];

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    job.word("print_job", &["no", "yes"])?;
    if job.setting("print_job") != Some("yes") {
        return Err(
            "no device is known that takes firmware by IPP; print_job = \"yes\" sends it as a job".to_owned()
        );
    }
    printer(job).map(|_| ())
}

fn printer<'j>(job: &Job<'j>) -> Result<&'j Ipp, String> {
    match &job.device.access {
        Access::Ipp(ipp) => Ok(ipp),
        _ => Err("only a device that is asked by IPP takes a job by it".to_owned()),
    }
}

/// The look at its state was the question.
pub(super) fn ask(job: &Job<'_>) -> Result<(), Answer> {
    printer(job).map(|_| ()).map_err(|reason| Answer::Refused { reason })
}

/// Sends it.
pub(super) async fn push(drivers: &Drivers, job: &Job<'_>, image: &mut Image) -> Result<(), Pushed> {
    let Ipp { url, self_signed, .. } = printer(job).map_err(Pushed::NotBegun)?;
    let trust = if *self_signed { Trust::Any } else { Trust::Known };
    let before = job_request(&url.to_string(), job.entry().module.as_str());
    let mut around = Around { head: String::new(), before, after: Vec::new() };
    let (common, length) = (super::page::common(job).map_err(Pushed::NotBegun)?, around.length(image));
    around.head = format!(
        "POST {} HTTP/1.1\r\n{common}Content-Type: application/ipp\r\nContent-Length: {length}\r\n\r\n",
        url.path()
    );
    let stream =
        connect(drivers, job, url.port(), url.is_tls().then_some(trust)).await.map_err(Pushed::NotBegun)?;
    match upload(job, stream, image, &around, true).await? {
        Told { status: 200, body, .. } => job_answer(&body).map_err(Pushed::Refused),
        Told { status: status @ 400..=499, .. } => Err(Pushed::Refused(format!("HTTP {status}"))),
        Told { status, .. } => Err(Pushed::Unclear(format!("it took the job and answers HTTP {status}"))),
    }
}
