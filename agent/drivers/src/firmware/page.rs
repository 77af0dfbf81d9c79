//! The handler `http-upload`: an image given to a page of a device's web interface, as a form does it (RFC 7578) or by PUT.
//!
//! Settings: `port` (80, with TLS 443), `path` (`/`), `method` = `post` | `put`, `field` (`file`), `file` (its name in the form,
//! `firmware.bin`), `form` (more fields, `a=b&c=d`), `status` (the only one that is success), `success` (a text that the answer must
//! have), `tls` = `no` | `yes`, `ask` (a page that says whether the device may be updated now, as JSON or by 503 and Retry-After).

use tokio::io::AsyncWriteExt as _;

use super::upload::{self, Around, connect, in_words};
use super::{Answer, Image, Job, Pushed, judge, said, talk};
use crate::Drivers;
use crate::access::Trust;
use crate::http::{self, Told};

pub(super) const SETTINGS: &[&str] =
    &["port", "path", "method", "field", "file", "form", "status", "success", "tls", "ask"];

/// Ends the parts of a form; more than any image can have by chance (RFC 2046 §5.1.1).
const BOUNDARY: &str = "----mailfleet-7f9c2ba4e88f827d616045507605853e";

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    for (name, usual) in [("path", "/"), ("field", "file"), ("file", "firmware.bin"), ("ask", "/")] {
        job.plain(name, usual)?;
    }
    job.plain("form", "a=b")?;
    if !job.plain("path", "/")?.starts_with('/') || !job.plain("ask", "/")?.starts_with('/') {
        return Err("path and ask begin with /".to_owned());
    }
    job.word("method", &["post", "put"])?;
    job.word("tls", &["no", "yes"])?;
    status(job).map(|_| ())
}

fn status(job: &Job<'_>) -> Result<Option<u16>, String> {
    let Some(text) = job.setting("status") else { return Ok(None) };
    let status = text.parse().ok().filter(|status| (200..=399).contains(status));
    status.map(Some).ok_or_else(|| format!("status = \"{text}\", expected 200 to 399"))
}

/// The device's own word, where it has a page for it.
pub(super) async fn ask(drivers: &Drivers, job: &Job<'_>) -> Result<(), Answer> {
    let (tls, port) = way(job);
    let not_now = |reason| Answer::NotNow { reason, hold: judge::HOLD_CLOSED };
    let Some(path) = job.setting("ask") else { return job.knock(port).await };
    let asked = async {
        let mut stream = connect(drivers, job, port, tls).await?;
        let head = format!("GET {path} HTTP/1.1\r\n{}Accept: application/json\r\n\r\n", common(job)?);
        job.step(stream.write_all(head.as_bytes())).await?;
        http::told(&mut stream, job.device.timeout, true).await.map_err(|fault| in_words(&fault))
    };
    Err(match asked.await {
        Ok(Told { status: 200, body, .. }) => return talk::answer(&body),
        Ok(Told { status: 503, retry_after: Some(seconds), .. }) => {
            Answer::Deferred { by: talk::time(Some(seconds), judge::HOLD_FAULT) }
        }
        Ok(Told { status: status @ 400..=499, .. }) => Answer::Refused { reason: format!("HTTP {status}") },
        Ok(Told { status, .. }) => not_now(format!("HTTP {status}")),
        Err(why) => not_now(why),
    })
}

/// Sends it.
pub(super) async fn push(drivers: &Drivers, job: &Job<'_>, image: &mut Image) -> Result<(), Pushed> {
    let around = request(job, image).map_err(Pushed::NotBegun)?;
    let (tls, port) = way(job);
    let stream = connect(drivers, job, port, tls).await.map_err(Pushed::NotBegun)?;
    let success = job.setting("success");
    let told = upload::upload(job, stream, image, &around, success.is_some()).await?;
    judged(&told, status(job).unwrap_or_default(), success)
}

/// What the answer to a whole image means.
fn judged(told: &Told, expected: Option<u16>, success: Option<&str>) -> Result<(), Pushed> {
    let is_good = expected.map_or((200..=299).contains(&told.status), |expected| told.status == expected);
    let text = String::from_utf8_lossy(&told.body);
    match told.status {
        _ if is_good && success.is_none_or(|success| text.contains(success)) => Ok(()),
        _ if is_good => Err(Pushed::Unclear(format!("it took the image and says: {}", said(&told.body)))),
        status @ 400..=499 => Err(Pushed::Refused(format!("HTTP {status}"))),
        status => Err(Pushed::Unclear(format!("it took the image and answers HTTP {status}"))),
    }
}

/// Whether by TLS, and the port that is usual for it.
fn way(job: &Job<'_>) -> (Option<Trust>, u16) {
    let tls = upload::tls(job);
    (tls, if tls.is_some() { 443 } else { 80 })
}

/// What every request has.
pub(super) fn common(job: &Job<'_>) -> Result<String, String> {
    let host = job.host()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let login = job.login().map(http::authorization);
    let login = login.unwrap_or_default();
    Ok(format!("Host: {host}\r\nUser-Agent: mailfleet-agent\r\n{login}Connection: close\r\n"))
}

fn request(job: &Job<'_>, image: &Image) -> Result<Around, String> {
    let path = job.plain("path", "/")?;
    if job.word("method", &["post", "put"])? == "put" {
        let (common, length) = (common(job)?, image.bytes());
        let head = format!(
            "PUT {path} HTTP/1.1\r\n{common}Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        return Ok(Around { head, before: Vec::new(), after: Vec::new() });
    }
    let fields = job.setting("form").unwrap_or_default().split('&').filter_map(|field| field.split_once('='));
    let fields: String = fields.map(|(name, value)| part(name, value)).collect();
    form(job, image, path, &fields, job.plain("field", "file")?, job.plain("file", "firmware.bin")?)
}

fn part(name: &str, value: &str) -> String {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// A form with an image in it.
pub(super) fn form(
    job: &Job<'_>,
    image: &Image,
    path: &str,
    fields: &str,
    field: &str,
    file: &str,
) -> Result<Around, String> {
    let before = format!(
        "{fields}--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let after = format!("\r\n--{BOUNDARY}--\r\n");
    let mut around = Around { head: String::new(), before: before.into_bytes(), after: after.into_bytes() };
    let (common, length) = (common(job)?, around.length(image));
    around.head = format!(
        "POST {path} HTTP/1.1\r\n{common}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    Ok(around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_image_is_taken_only_as_the_bundle_says() {
        let told = |status, body: &str| Told { status, retry_after: None, body: body.as_bytes().to_vec() };
        assert_eq!(judged(&told(201, ""), None, None), Ok(()));
        assert_eq!(judged(&told(302, ""), Some(302), None), Ok(()));
        assert_eq!(judged(&told(200, "<p>Upgrade started</p>"), None, Some("Upgrade started")), Ok(()));
        let unclear =
            |told: &Told, status, text| matches!(judged(told, status, text), Err(Pushed::Unclear(_)));
        assert!(unclear(&told(200, "<p>Please log in</p>"), None, Some("Upgrade started")));
        assert!(unclear(&told(302, ""), None, None) && unclear(&told(500, ""), None, None));
        assert!(matches!(judged(&told(403, ""), None, None), Err(Pushed::Refused(_))));
    }
}
