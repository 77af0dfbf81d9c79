//! `keys`: whom the agents trust, and how that is changed: proposed here, signed where the release keys are,
//! accepted here. What a change may be is `manager_core::trust`'s, what agents believe is `shared::trust`'s.

use std::path::Path;

use mailfleet::home::Home;
use mailfleet::system::{now, random};
use manager_core::trust::Change;
use serde_json::json;
use shared::KeyId;
use shared::keys::{SigningKey, VerifyingKey};
use shared::limits::TRUST_MAX_BYTES;
use shared::trust::{Statement, Trust, TrustError};
use zeroize::Zeroizing;

use super::args::{Doctor, KeysAccept, KeysNewRelease, KeysPropose, KeysSign};
use super::bundle::release_key;
use super::fail::{Done, Fail, Kind, OrFail as _, Outcome, cannot_write};
use super::files::NewFile;
use super::{audited, open, show};

/// A statement with room for its signatures.
const STATEMENT_MAX_BYTES: usize = 2 * TRUST_MAX_BYTES;

pub(crate) fn list(home: Option<&Path>, args: &Doctor) -> Outcome {
    let home = open::home(home)?;
    let trust = home.trust().map_err(open::home_failed)?;
    let agents = open::store(&home)?.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let enrolled: Vec<_> = agents.iter().filter(|agent| agent.enrolled_at.is_some()).collect();
    // Version 1 is what every invitation begins with; nobody says that it holds it.
    let holds = |version: Option<u32>| version.unwrap_or(1) >= trust.version;
    let holders = enrolled.iter().filter(|agent| holds(agent.trust_version)).count();
    if args.format.json {
        let ids = |keys: &[VerifyingKey]| keys.iter().map(|k| k.key_id().to_string()).collect::<Vec<_>>();
        show::print_json(&json!({
            "version": trust.version,
            "made": trust.made.to_string(),
            "order_keys": ids(&trust.order_keys),
            "release_keys": ids(&trust.release_keys),
            "threshold": trust.threshold,
            "opening_key": trust.seal_key.to_text(),
            "agents": enrolled.len(),
            "agents_with_it": holders,
        }))?;
    } else {
        show::print(&describe(&trust))?;
        if trust.version > 1 {
            let all = show::count(enrolled.len(), "agent");
            show::print(&format!("{:<18}{holders} of {all} have said that they hold it\n", "Agents"))?;
        }
    }
    Ok(Done::All)
}

fn describe(trust: &Trust) -> String {
    let texts = |keys: &[VerifyingKey]| {
        keys.iter().map(|key| format!("{}  {}", key.key_id(), key.to_text())).collect::<Vec<_>>()
    };
    let mut text = format!("{:<18}version {}, made {}\n", "Trust", trust.version, trust.made);
    for (index, key) in texts(&trust.order_keys).into_iter().enumerate() {
        let use_ = if index == 0 { "signs orders" } else { "still counts" };
        text.push_str(&format!("{:<18}{key}  {use_}\n", "Order key"));
    }
    for key in texts(&trust.release_keys) {
        text.push_str(&format!("{:<18}{key}\n", "Release key"));
    }
    let threshold = format!("{} of {} release keys must sign", trust.threshold, trust.release_keys.len());
    text.push_str(&format!("{:<18}{threshold}\n", "Threshold"));
    text.push_str(&format!("{:<18}{}\n", "Opening key", trust.seal_key.to_text()));
    text
}

pub(crate) fn propose(home: Option<&Path>, args: &KeysPropose) -> Outcome {
    let home = open::home(home)?;
    let known = home.trust().map_err(open::home_failed)?;
    let mut change = Change {
        drop_order_keys: args.drop_order_keys.clone(),
        add_release_keys: args.add_release_keys.clone(),
        drop_release_keys: args.drop_release_keys.clone(),
        threshold: args.threshold,
        ..Change::default()
    };
    // Checked without new keys first: a slip must not leave keys behind that nothing names.
    if !args.new_order_key && !args.new_opening_key {
        change.clone().apply(&known, now()).or_usage("this change cannot be made")?;
    }
    if args.new_order_key {
        change.new_order_key = Some(home.new_order_key().map_err(open::home_failed)?);
    }
    if args.new_opening_key {
        change.new_seal_key = Some(home.new_opening_key().map_err(open::home_failed)?);
    }
    let next = change.apply(&known, now()).or_usage("this change cannot be made")?;
    write_statement(&args.output, &Statement::unsigned(&next))?;
    let mut store = open::store(&home)?;
    audited::note(&mut store, format!("keys proposed: {}", summary(&next))).map_err(open::store_failed)?;
    show::print(&describe(&next))?;
    show::say(&format!(
        "Wrote {file}. Nothing has changed yet. Next: mailfleet keys sign {file} --release-key FILE\n{}",
        needed(&known, &next),
        file = args.output.display(),
    ))?;
    Ok(Done::All)
}

/// A trust in one line.
fn summary(trust: &Trust) -> String {
    let ids = |keys: &[VerifyingKey]| list_of(&keys.iter().map(VerifyingKey::key_id).collect::<Vec<_>>());
    format!(
        "version {}, order keys {}, release keys {}, of which {} must sign, opening key {}",
        trust.version,
        ids(&trust.order_keys),
        ids(&trust.release_keys),
        trust.threshold,
        trust.seal_key.to_text()
    )
}

fn needed(known: &Trust, next: &Trust) -> String {
    if known.release_keys == next.release_keys && known.threshold == next.threshold {
        return format!("It needs {} of the release keys.", known.threshold);
    }
    format!(
        "It needs {} of the release keys that are trusted now, and {} of those that it names.",
        known.threshold, next.threshold
    )
}

pub(crate) fn sign(home: Option<&Path>, args: &KeysSign) -> Outcome {
    let key = release_key(home, args.release_key.as_deref())?;
    let mut statement = read_statement(&args.file)?;
    let trust = statement.inspect_unverified().or_usage(format!("{} is not right", args.file.display()))?;
    statement.sign(&key);
    write_statement(&args.file, &statement)?;
    // Whoever signs should see what.
    show::print(&describe(&trust))?;
    let signers = list_of(&statement.signers());
    show::say(&format!("Signed {}. Signatures so far: {signers}.", args.file.display()))?;
    Ok(Done::All)
}

pub(crate) fn accept(home: Option<&Path>, args: &KeysAccept) -> Outcome {
    let home = open::home(home)?;
    let _lock = lock(&home)?;
    let mut statements = args.files.iter().map(|file| Ok((file, read_statement(file)?)));
    let Some(first) = statements.next() else { return Err(Fail::usage("expected a file with a change")) };
    let (_, mut statement) = first?;
    for other in statements {
        let (file, other) = other?;
        if !statement.join(&other) {
            return Err(Fail::usage(format!("{} is another change than the first file", file.display())));
        }
    }
    let known = home.trust().map_err(open::home_failed)?;
    let next = statement.accept(&known).map_err(|err| {
        let unsigned = matches!(err, TrustError::TooFew { .. });
        let fail = Fail::of(Kind::Usage, err, "this change cannot be accepted");
        match unsigned {
            true => fail.next("sign it with the release keys that are missing: mailfleet keys sign"),
            false => fail.next("propose it anew: mailfleet keys propose"),
        }
    })?;
    let signers = list_of(&statement.signers());
    // Before it is in force: keys that count without a row that says who has brought them would be worse than a row too many.
    let mut store = open::store(&home)?;
    let deed = format!("keys accepted: {}; signed by {signers}", summary(&next));
    audited::note(&mut store, deed).map_err(open::store_failed)?;
    let trust = home.accept(&statement).map_err(open::home_failed)?;
    show::print(&describe(&trust))?;
    show::say(
        "In force. Every mail to an agent brings it from now on, heartbeats too; `mailfleet keys list` counts the \
         agents that hold it. Start the daemon again.",
    )?;
    Ok(Done::All)
}

fn lock(home: &Home) -> Result<mailfleet::home::HomeLock, Fail> {
    home.lock().map_err(|err| open::home_failed(err).next("stop the daemon first: it signs with the old key"))
}

pub(crate) fn new_release(args: &KeysNewRelease) -> Outcome {
    if args.output.exists() {
        return Err(Fail::usage(format!("{} is there already: nothing was changed", args.output.display())));
    }
    let key = SigningKey::from_seed(&Zeroizing::new(random()));
    let write = || {
        let mut new = NewFile::create(&args.output, 0o600)?;
        std::io::Write::write_all(new.file(), key.to_secret_text().as_bytes())?;
        new.finish()
    };
    write().map_err(|err| cannot_write(err, &args.output))?;
    let public = key.verifying_key();
    show::print(&format!("{}\n", public.to_text()))?;
    // Not on standard output: the key there may go straight into `keys propose --add-release-key`.
    show::note(&format!(
        "Wrote {}: release key {}. It counts once a change that adds it is in force.",
        args.output.display(),
        public.key_id()
    ));
    Ok(Done::All)
}

fn list_of(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn read_statement(path: &Path) -> Result<Statement, Fail> {
    let bytes = std::fs::read(path).or_usage(format!("cannot read {}", path.display()))?;
    let not_one = || format!("{} holds no change of the trust", path.display());
    if bytes.len() > STATEMENT_MAX_BYTES {
        return Err(Fail::usage(not_one()));
    }
    let mut statements = Statement::read_all(&bytes).or_usage(not_one())?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Fail::usage(not_one())),
    }
}

fn write_statement(path: &Path, statement: &Statement) -> Result<(), Fail> {
    let write = || {
        let mut new = NewFile::create(path, 0o644)?;
        std::io::Write::write_all(new.file(), &statement.to_bytes())?;
        new.finish()
    };
    write().map_err(|err| cannot_write(err, path))
}
