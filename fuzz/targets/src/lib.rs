//! One function for each decoder that sees bytes from outside: it decodes, and asserts what must hold whatever
//! the bytes are. The engine in `fuzz/engine` makes up inputs for them; `tests/replay.rs` plays the kept ones.
//!
//! Signatures, checksums and ciphertext are made here with fixed keys, so that inputs reach the code behind
//! them; a fuzzer cannot forge. No decoder of its own, no file, no socket.

mod bundles;
mod devices;
mod envelopes;
mod harness;
mod mails;
mod messages;
mod servers;
mod settings;
mod texts;
mod trusts;

pub use bundles::old_file;
pub use harness::{
    ALLOCATOR, Counting, MEMORY_MAX_BYTES, opening_key, release_key, sender_key, unbind_panics,
};
pub use trusts::known_trust;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: folders of inputs are called so.
    pub name: &'static str,
    /// Longest input that is worth making up, in bytes.
    pub input_max_bytes: usize,
    body: fn(&[u8]) -> bool,
}

impl Target {
    /// Decodes one input; true if it was accepted. Panics if something does not hold that must.
    pub fn play(&self, input: &[u8]) -> bool {
        harness::bounded(|| (self.body)(input))
    }
}

/// Every target.
pub const TARGETS: [Target; 31] = [
    target("envelope_head", 4096, envelopes::head),
    target("envelope_header", 4096, envelopes::header),
    target("envelope_body", 2048, envelopes::body),
    target("message_order", 1024, messages::order),
    target("message_report", 4096, messages::report),
    target("bundle_file", 4096, bundles::file),
    target("bundle_manifest", 4096, bundles::manifest),
    target("bundle_payload", 4096, bundles::payload),
    target("bundle_patch", 4096, bundles::patch),
    target("trust_statements", 2048, trusts::statements),
    target("trust_signed", 1024, trusts::trust),
    target("invitation", 4096, texts::invitation),
    target("names", 512, texts::names),
    target("mail_url", 512, texts::mail_url),
    target("mail_attachment", 4096, mails::attachment),
    target("mail_headers", 4096, mails::headers),
    target("mail_bounce", 4096, mails::bounce),
    target("smtp_replies", 2048, servers::smtp),
    target("imap_responses", 4096, servers::imap),
    target("pop3_answers", 4096, servers::pop3),
    target("ipp_answers", 4096, devices::printer),
    target("firmware_answers", 2048, devices::firmware),
    target("toml_devices", 2048, devices::list),
    target("agents_csv", 2048, settings::agents_csv),
    target("selection", 512, settings::selection),
    target("agent_state", 4096, settings::agent_state),
    target("lease", 1024, settings::lease),
    target("wish", 512, settings::wish),
    target("toml_agent", 4096, settings::agent_toml),
    target("toml_manager", 2048, settings::manager_toml),
    target("toml_bundle", 4096, settings::bundle_toml),
];

const fn target(name: &'static str, input_max_bytes: usize, body: fn(&[u8]) -> bool) -> Target {
    Target { name, input_max_bytes, body }
}
