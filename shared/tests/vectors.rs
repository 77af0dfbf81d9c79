//! The test vectors in PROTOCOL.md are what this code makes. `UPDATE_GOLDEN=1` rewrites them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, reason = "tests may panic")]

use std::fmt::Write as _;
use std::io::Cursor;

use rand_core::{Infallible, TryCryptoRng, TryRng};
use shared::bundle::{BundleSpec, Compression, pack, write_head};
use shared::envelope::{ContentKey, NewHeader, RawHead, check_body, open_body, seal_body, seal_head};
use shared::keys::{OpeningKey, SigningKey};
use shared::message::{Order, Report, decode_order, encode};
use shared::rekey::rekeyed;
use shared::trust::{Statement, Trust};
use shared::{AgentId, Digest, EnvelopeId, UnixMillis, hex};

/// Bytes 00 01 02 …, as the vectors say.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for byte in into {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}
impl TryCryptoRng for Counting {}

fn wrapped(digits: &str) -> String {
    digits.as_bytes().chunks(96).map(|line| format!("  {}\n", str::from_utf8(line).unwrap())).collect()
}

fn vectors() -> String {
    let order_key = SigningKey::from_seed(&[1; 32]);
    let agent_key = OpeningKey::from_seed(&[2; 32]);
    let release_key = SigningKey::from_seed(&[3; 32]);
    let content_key = ContentKey::from_bytes([4; 32]);
    let mut out = String::new();
    let public = order_key.verifying_key();
    writeln!(out, "order key, seed 01 × 32\n  public    {}", hex::encode(&public.to_bytes())).unwrap();
    writeln!(out, "  key ID    {}", public.key_id()).unwrap();
    let seal = agent_key.sealing_key();
    writeln!(out, "agent's opening key, seed 02 × 32\n  public    {}", hex::encode(&seal.to_bytes()))
        .unwrap();
    let release_id = release_key.verifying_key().key_id();
    writeln!(out, "release key, seed 03 × 32\n  key ID    {release_id}").unwrap();

    let message = encode(&Order::QueryVersions);
    let mut body = Vec::new();
    let sealed = seal_body(&content_key, &message, &mut std::io::empty(), &mut body).unwrap();
    let new = NewHeader {
        id: EnvelopeId([5; 16]),
        created: UnixMillis(1_795_000_000_000),
        expires: UnixMillis(1_796_209_600_000),
        sequence: 42,
        body: sealed,
    };
    let head = seal_head(&new, &content_key, &[seal], &order_key, &mut Counting(0)).unwrap();
    out.push_str("query-versions order: message\n");
    out.push_str(&wrapped(&hex::encode(&message)));
    out.push_str("body, content key 04 × 32\n");
    out.push_str(&wrapped(&hex::encode(&body)));
    out.push_str("attachment: envelope ID 05 × 16, created 1795000000000, expires 1796209600000, sequence 42, counting from 00\n");
    out.push_str(&wrapped(&hex::encode(&[head.as_slice(), &body].concat())));

    // What was made must also open.
    let raw = RawHead::read(&mut head.as_slice()).unwrap();
    let header = raw.verify(&public).unwrap();
    check_body(&header, &mut body.as_slice()).unwrap();
    let opened = header.open_slot(&agent_key, raw.sender()).unwrap();
    let (plain, _) = open_body(&header, &opened, body.as_slice()).unwrap();
    assert_eq!(decode_order(&plain).unwrap(), Order::QueryVersions);

    let spec = BundleSpec::parse(
        "software_version = \"1.0.02-0\"\n[[module]]\nname = \"abcd\"\nversion = \"1.0.00\"\ndate = \"2026-01-01\"\n\
         file = \"abcd\"\npath = \"bin/abcd\"\nmode = \"0755\"\nkind = \"resident\"\n",
    )
    .unwrap();
    let mut payload = Vec::new();
    // Deflate at level 0 stores: its bytes do not depend on a compressor's version.
    let manifest = pack(
        &spec,
        Compression::Deflate,
        0,
        UnixMillis(1_795_000_000_000),
        &mut |_| Ok(Cursor::new(b"hello\n".to_vec())),
        &mut payload,
        &mut |_| {},
    )
    .unwrap();
    let mut bundle = write_head(&manifest, &[&release_key]).unwrap();
    bundle.extend_from_slice(&payload);
    out.push_str(
        "bundle: one module \"abcd\" of 6 bytes \"hello\\n\", deflate level 0, built 1795000000000\n",
    );
    out.push_str(&wrapped(&hex::encode(&bundle)));
    writeln!(out, "  SHA-256   {}", Digest::of(&bundle)).unwrap();
    let made = UnixMillis(1_795_000_000_000);
    let opening = OpeningKey::from_seed(&[6; 32]).sealing_key();
    let trust = Trust::new(2, made, vec![public], vec![release_key.verifying_key()], 1, opening);
    let mut statement = Statement::unsigned(&trust);
    statement.sign(&release_key);
    out.push_str("trust statement: version 2, made 1795000000000, opening key of seed 06 × 32\n");
    out.push_str(&wrapped(&hex::encode(&statement.to_bytes())));
    let (sign, seal) = (SigningKey::from_seed(&[7; 32]), OpeningKey::from_seed(&[8; 32]).sealing_key());
    let new = rekeyed(&AgentId::parse("A0001").unwrap(), EnvelopeId([5; 16]), &sign, &seal);
    out.push_str("rekeyed report of agent A0001: order 05 × 16, signing key of seed 07 × 32, opening key of seed 08 × 32\n");
    out.push_str(&wrapped(&hex::encode(&encode(&Report::Rekeyed(new)))));
    out
}

#[test]
fn the_vectors_in_the_protocol_text_are_what_the_code_makes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../PROTOCOL.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = "## 19. Test vectors";
    let start = text.find(heading).unwrap();
    let expected = format!("```text\n{}```\n", vectors());
    let after_heading = &text[start..];
    let found = after_heading.find("```text").map_or("", |at| &after_heading[at..]);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let keep = text.len() - found.len();
        std::fs::write(path, format!("{}{expected}", &text[..keep])).unwrap();
        return;
    }
    assert_eq!(found, expected, "run with UPDATE_GOLDEN=1 if the change is meant");
}
